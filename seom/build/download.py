"""ADD of http and https URLs."""

from __future__ import annotations

import email.utils
import hashlib
import os
import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import aiohttp

from seom.build.workspace import Workspace
from seom.errors import InvalidParameter, Unavailable
from seom.images.progress import Message, advance

_MODE = 0o600
_REPORT_EVERY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Download:
    """A file that was fetched: the directory it lies in, its name, and whether that came from the URL."""

    url: str
    tree: int
    name: str
    named: bool
    digest: str


def is_url(text: str) -> bool:
    """Whether ADD fetches this instead of looking into the context."""
    return text.lower().startswith(("http://", "https://"))


async def download(
    url: str, workspace: Workspace, checksum: str, report: Callable[[Message], None]
) -> Download:
    """Fetch a URL into the workspace; a checksum (sha256:HEX) is verified.

    Raises Unavailable when the server does not give it, InvalidParameter for another checksum.
    """
    if checksum and not checksum.startswith(("sha256:", "sha384:", "sha512:")):
        raise InvalidParameter(f"invalid checksum digest format: {checksum}; write sha256:HEX")
    name = posixpath.basename(unquote(urlsplit(url).path))
    if name in (".", "..") or "\0" in name:
        name = ""
    folder = workspace.new_folder()
    path = folder / (name or "download")
    hasher = hashlib.new(checksum.partition(":")[0] or "sha256")
    try:
        async with aiohttp.ClientSession(trust_env=True) as session, session.get(url) as response:
            if response.status != 200:
                raise Unavailable(
                    f"ADD failed: {url}: the server answers {response.status} {response.reason}"
                )
            await _receive(response, path, hasher, report)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Unavailable(f"ADD failed: cannot fetch {url}: {error}") from error
    found = f"{hasher.name}:{hasher.hexdigest()}"
    if checksum and found != checksum:
        raise InvalidParameter(f"ADD failed: digest mismatch: {url} has {found}, expected {checksum}")
    modified = _modified(response.headers.get("Last-Modified", ""))
    os.utime(path, (modified, modified))
    tree = workspace.keep(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    return Download(url, tree, path.name, bool(name), found)


async def _receive(
    response: aiohttp.ClientResponse,
    path: os.PathLike[str],
    hasher: hashlib._Hash,
    report: Callable[[Message], None],
) -> None:
    total, received, told = response.content_length or 0, 0, 0
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    with os.fdopen(file, "wb") as stream:
        async for chunk in response.content.iter_any():
            stream.write(chunk)
            hasher.update(chunk)
            received += len(chunk)
            if received - told >= _REPORT_EVERY_BYTES:
                told = received
                report(advance("", "Downloading", received, total))


def _modified(text: str) -> float:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except ValueError:
        return 0.0
