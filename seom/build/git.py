"""ADD of git repositories: URL[#REF[:FOLDER]], fetched by the host's git.

Only the commit that is asked for is fetched, over network protocols alone (a URL must not reach the
daemon's own files or start programs), without the configuration of the host or its users.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from seom.build.sources import Source
from seom.build.threads import run_to_end
from seom.build.workspace import Workspace
from seom.errors import InvalidParameter, NotSupported, Unavailable

_REMOTE = re.compile(r"(git|ssh)://.+|[\w.-]+@[\w.-]+:.+|https?://[^#?]+\.git(#.*)?")
_TIMEOUT_S = 600.0
_ENVIRONMENT = {
    "GIT_ALLOW_PROTOCOL": "https:http:git:ssh",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
    "LC_ALL": "C",
}


@dataclass(frozen=True, slots=True)
class Checkout:
    """A commit's files: where they are, and what identifies them."""

    source: Source
    digest: str


def is_git(text: str) -> bool:
    """Whether ADD takes this for a git repository."""
    return _REMOTE.fullmatch(text) is not None


async def checkout(url: str, workspace: Workspace, checksum: str, keep_git_dir: bool) -> Checkout:
    """Fetch a commit; a checksum is its id or the beginning of it.

    Raises Unavailable with git's words, InvalidParameter for another commit or a missing folder,
    NotSupported when the host has no git.
    """
    remote, _, fragment = url.partition("#")
    reference, _, folder = fragment.partition(":")
    if remote.startswith("-") or reference.startswith("-"):
        raise InvalidParameter(f"ADD failed: {url} is no address of a git repository")
    place = await run_to_end(workspace.new_folder)
    await _git(place, "init", "--quiet")
    await _git(place, "fetch", "--quiet", "--depth=1", "--", remote, reference or "HEAD")
    await _git(place, "checkout", "--quiet", "--detach", "FETCH_HEAD")
    commit = (await _git(place, "rev-parse", "HEAD")).strip()
    if checksum and not commit.startswith(checksum):
        raise InvalidParameter(f"ADD failed: {url} is at commit {commit}, expected {checksum}")
    if not keep_git_dir:
        await run_to_end(lambda: shutil.rmtree(place / ".git"))
    tree = workspace.keep(os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    inside = posixpath.normpath("/" + folder).lstrip("/")
    if not (place / inside).is_dir():
        raise InvalidParameter(f"ADD failed: {url}: the commit {commit} has no directory {folder}")
    return Checkout(Source(tree, inside, True), f"{commit} {inside} {keep_git_dir}")


async def _git(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, **_ENVIRONMENT, "HOME": str(folder)}
    try:
        process = await asyncio.create_subprocess_exec(
            *("git", "-C", str(folder), "-c", "advice.detachedHead=false", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
    except FileNotFoundError as error:
        raise NotSupported("ADD of a git repository needs the program git on the host") from error
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            output, errors = await process.communicate()
    except BaseException:
        process.kill()
        await asyncio.shield(process.wait())
        raise
    if process.returncode:
        raise Unavailable(f"ADD failed: git {arguments[0]}: {errors.decode(errors='replace').strip()}")
    return output.decode(errors="replace")
