"""A client of one registry: the OCI distribution specification over HTTP.

    resolve          HEAD   /v2/NAME/manifests/REFERENCE
    fetch_manifest   GET    /v2/NAME/manifests/REFERENCE
    put_manifest     PUT    /v2/NAME/manifests/REFERENCE
    open_blob        GET    /v2/NAME/blobs/DIGEST            (Range: to resume)
    has_blob         HEAD   /v2/NAME/blobs/DIGEST
    start_upload     POST   /v2/NAME/blobs/uploads/          (?mount=DIGEST&from=NAME)
    send, commit     PATCH and PUT to the Location of the upload
    tags             GET    /v2/NAME/tags/list               (pages by the Link header)

Sign-in and redirects are the session's part (registry_session.py), repetition the caller's (patience.py).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType

import aiohttp
import msgspec
from yarl import URL

from seom.errors import InvalidParameter, Unauthorized, Unavailable
from seom.images.auth import ANONYMOUS, Credentials
from seom.images.endpoint import RegistrySettings
from seom.images.registry_errors import ConnectionFailed, refusal_of, status_line
from seom.images.registry_session import Body, RegistrySession, chunks_of, read_limited
from seom.oci.descriptor import DIGEST, Descriptor, digest_of
from seom.oci.manifest import INDEXES, LARGEST_MANIFEST_BYTES, MANIFESTS, is_foreign

MOST_TAG_PAGES = 1000
ACCEPTED_MANIFESTS = ", ".join(sorted(MANIFESTS | INDEXES))
_NEXT_PAGE = re.compile(r'<([^>]*)>\s*;[^,]*rel="?next"?', re.IGNORECASE)


class _TagList(msgspec.Struct):
    tags: list[str] | None = None


@dataclass(frozen=True, slots=True)
class FetchedManifest:
    content: bytes
    media_type: str
    digest: str


@dataclass(frozen=True, slots=True)
class BlobStream:
    """The body of a blob from byte ``start`` on; 0 when the registry ignored the wanted offset."""

    start: int
    chunks: AsyncIterator[bytes]


@dataclass(slots=True)
class Upload:
    """A running upload: where the next bytes go and how many the registry has."""

    location: URL
    offset: int = 0


class RegistryClient:
    """A conversation with one registry on behalf of one account; an async context manager."""

    def __init__(
        self,
        domain: str,
        credentials: Credentials = ANONYMOUS,
        settings: RegistrySettings = RegistrySettings(),  # noqa: B008  (immutable)
    ) -> None:
        self.settings = settings
        self._http = RegistrySession(domain, credentials, settings)

    async def __aenter__(self) -> RegistryClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def base(self) -> URL:
        """The URL all others start with; raises ConnectionFailed when the registry is out of reach."""
        return await self._http.base()

    async def check_login(self) -> str:
        """Prove that the credentials are good; returns an identity token if the registry gives one.

        Raises Unauthorized, or ConnectionFailed.
        """
        url = await self.base() / "v2/"
        async with self._http.exchange("GET", url, "", refuse=False) as response:
            if response.status == 401:
                raise Unauthorized(
                    f"login attempt to {url} failed with status: 401 Unauthorized"
                    if "basic" in response.headers.get("WWW-Authenticate", "").lower()
                    else f'Get "{url}": {await refusal_of(response)}'
                )
            if response.status != 200:
                raise Unavailable(f"login attempt to {url} failed with status: {status_line(response)}")
        await self._http.authorizer.obtain_identity()
        return self._http.authorizer.identity_token

    async def resolve(self, name: str, reference: str) -> str | None:
        """The digest of a tag without its manifest; None when the registry does not tell."""
        url = await self._url(name, "manifests", reference)
        headers = {"Accept": ACCEPTED_MANIFESTS}
        async with self._http.exchange("HEAD", url, pull_scope(name), headers, refuse=False) as response:
            digest = response.headers.get("Docker-Content-Digest", "")
            return digest if response.status == 200 and DIGEST.fullmatch(digest) else None

    async def fetch_manifest(self, name: str, reference: str) -> FetchedManifest:
        """A manifest or index by tag or digest, verified against the digest.

        Raises RegistryRefusal, ConnectionFailed, and InvalidParameter for a wrong digest or size.
        """
        url = await self._url(name, "manifests", reference)
        async with self._http.exchange(
            "GET", url, pull_scope(name), {"Accept": ACCEPTED_MANIFESTS}
        ) as response:
            content = await read_limited(response, LARGEST_MANIFEST_BYTES)
            promised = response.headers.get("Docker-Content-Digest", "")
            media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        wanted = reference if ":" in reference else promised if DIGEST.fullmatch(promised) else ""
        digest = digest_of(content, wanted.partition(":")[0] or "sha256")
        if wanted and digest != wanted:
            raise InvalidParameter(
                f"manifest verification failed for digest {wanted}: the registry sent content with digest "
                f"{digest}; the registry or the way to it is damaged"
            )
        return FetchedManifest(content, media_type, digest)

    async def put_manifest(self, name: str, reference: str, content: bytes, media_type: str) -> None:
        """Store a manifest under a tag or its digest."""
        url = await self._url(name, "manifests", reference)

        async def body() -> AsyncIterator[bytes]:
            yield content

        headers = {"Content-Type": media_type, "Content-Length": str(len(content))}
        async with self._http.exchange("PUT", url, push_scope(name), headers, body):
            pass

    @asynccontextmanager
    async def open_blob(self, name: str, blob: Descriptor, offset: int = 0) -> AsyncIterator[BlobStream]:
        """Stream a blob from byte offset on; foreign layers come from the URLs of their descriptor."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        url = await self._url(name, "blobs", blob.digest)
        if blob.urls and is_foreign(blob):
            url = URL(blob.urls[0])
        async with self._http.exchange("GET", url, pull_scope(name), headers) as response:
            start = offset if response.status == HTTPStatus.PARTIAL_CONTENT else 0
            yield BlobStream(start, chunks_of(response))

    async def has_blob(self, name: str, digest: str, pushing: bool = True) -> bool:
        """Whether the repository holds a blob."""
        url = await self._url(name, "blobs", digest)
        scope = push_scope(name) if pushing else pull_scope(name)
        async with self._http.exchange("HEAD", url, scope, refuse=False) as response:
            if response.status in (401, 403) or response.status >= 500:
                raise await refusal_of(response)
            return response.status == 200

    async def start_upload(self, name: str, mount: str = "", source: str = "") -> Upload | None:
        """Begin to upload a blob; None when the blob ``mount`` could be taken over from ``source``."""
        url = await self._url(name, "blobs", "uploads/")
        scope = push_scope(name)
        if mount:
            url = url.with_query({"mount": mount, "from": source})
            scope += " " + pull_scope(source)
        async with self._http.exchange("POST", url, scope, {"Content-Length": "0"}) as response:
            return None if response.status == HTTPStatus.CREATED else Upload(_location(response))

    async def send(self, name: str, upload: Upload, body: Body, size: int) -> None:
        """Append size bytes to an upload."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        if upload.offset:  # registries that take a blob only in one piece refuse any range
            headers["Content-Range"] = f"{upload.offset}-{upload.offset + size - 1}"
        async with self._http.exchange("PATCH", upload.location, push_scope(name), headers, body) as response:
            upload.location = _location(response)
            upload.offset += size

    async def refresh_upload(self, name: str, upload: Upload) -> None:
        """Ask how many bytes of a broken upload arrived, to go on from there."""
        async with self._http.exchange("GET", upload.location, push_scope(name)) as response:
            last = response.headers.get("Range", "").removeprefix("bytes=").partition("-")[2]
            upload.offset = int(last) + 1 if last.isdigit() and last != "0" else 0
            if "Location" in response.headers:
                upload.location = _location(response)

    async def commit(self, name: str, upload: Upload, digest: str) -> None:
        """Finish an upload; the registry verifies the digest."""
        url = upload.location.update_query({"digest": digest})
        async with self._http.exchange("PUT", url, push_scope(name), {"Content-Length": "0"}):
            pass

    async def tags(self, name: str) -> list[str]:
        """All tags of a repository, in the registry's order."""
        found: list[str] = []
        url: URL | None = await self._url(name, "tags", "list")
        for _ in range(MOST_TAG_PAGES):
            if url is None:
                break
            async with self._http.exchange("GET", url, pull_scope(name)) as response:
                found += msgspec.json.decode(await read_limited(response), type=_TagList).tags or []
                following = _NEXT_PAGE.search(response.headers.get("Link", ""))
                url = response.url.join(URL(following[1])) if following else None
        return found

    async def _url(self, name: str, kind: str, rest: str) -> URL:
        return (await self.base()).with_path(f"/v2/{name}/{kind}/{rest}")


def pull_scope(name: str) -> str:
    """The token scope to read a repository."""
    return f"repository:{name}:pull"


def push_scope(name: str) -> str:
    """The token scope to write a repository."""
    return f"repository:{name}:pull,push"


def _location(response: aiohttp.ClientResponse) -> URL:
    location = response.headers.get("Location")
    if not location:
        raise ConnectionFailed(f"{response.method} {response.url}: the registry did not say where to go on")
    return response.url.join(URL(location, encoded=True))
