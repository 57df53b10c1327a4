"""A client of one registry: the OCI distribution specification over HTTP.

    resolve          HEAD   /v2/NAME/manifests/REFERENCE
    fetch_manifest   GET    /v2/NAME/manifests/REFERENCE
    put_manifest     PUT    /v2/NAME/manifests/REFERENCE
    open_blob        GET    /v2/NAME/blobs/DIGEST            (Range: to resume)
    has_blob         HEAD   /v2/NAME/blobs/DIGEST
    start_upload     POST   /v2/NAME/blobs/uploads/          (?mount=DIGEST&from=NAME)
    send, commit     PATCH and PUT to the Location of the upload
    tags             GET    /v2/NAME/tags/list               (pages by the Link header)

One request is one try, with sign-in and redirects; repeating a broken transfer is the caller's part.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from seom import __version__
from seom.errors import InvalidParameter, SeomError, Unauthorized, Unavailable
from seom.images.auth import (
    ANONYMOUS,
    Authorizer,
    Credentials,
    TokenAnswer,
    TokenRequest,
    parse_challenges,
)
from seom.images.endpoint import (
    RegistrySettings,
    is_insecure,
    proxy_for,
    registry_host,
    schemes,
    tls_context,
)
from seom.oci.descriptor import DIGEST, Descriptor, digest_of
from seom.oci.manifest import INDEXES, LARGEST_MANIFEST_BYTES, MANIFESTS

ACCEPTED_MANIFESTS = ", ".join(sorted(MANIFESTS | INDEXES))
MOST_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_ERROR_BODY_BYTES = 64 << 10
_CODE_OF_STATUS = {401: "UNAUTHORIZED", 403: "DENIED", 404: "NOT_FOUND", 429: "TOOMANYREQUESTS"}
_NEXT_PAGE = re.compile(r'<([^>]*)>\s*;[^,]*rel="?next"?', re.IGNORECASE)

Body = Callable[[], AsyncIterator[bytes]]


class RegistryRefusal(SeomError):
    """The registry answered with an error; code is the specification's (MANIFEST_UNKNOWN ...)."""

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.code = code

    @property
    def worth_repeating(self) -> bool:
        """Whether the same request may succeed a little later."""
        return self.status in (408, 429) or self.status >= 500


class ConnectionFailed(Unavailable):
    """The registry could not be reached, or the connection broke."""


class _ErrorItem(msgspec.Struct):
    code: str = ""
    message: str = ""


class _ErrorBody(msgspec.Struct):
    errors: list[_ErrorItem] = msgspec.field(default_factory=list)
    details: str = ""


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
        self.domain = domain
        self.host = registry_host(domain)
        self.settings = settings
        self.authorizer = Authorizer(credentials, self._fetch_token)
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._base: URL | None = None
        self._finding_base = asyncio.Lock()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(
                total=None,
                connect=settings.connect_timeout_s,
                sock_connect=settings.connect_timeout_s,
                sock_read=settings.read_timeout_s,
            ),
            headers={"User-Agent": f"seom/{__version__}", "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=1 << 20,
        )

    async def __aenter__(self) -> RegistryClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def base(self) -> URL:
        """The URL all others start with, found by asking for /v2/ over each permitted scheme.

        The answer's challenge is noted. Raises ConnectionFailed when none answers.
        """
        async with self._finding_base:
            if self._base is None:
                self._base = await self._find_base()
            return self._base

    async def check_login(self) -> str:
        """Prove that the credentials are good; returns an identity token if the registry gives one.

        Raises Unauthorized, or ConnectionFailed.
        """
        url = await self.base() / "v2/"
        async with self._exchange("GET", url, "", refuse=False) as response:
            if response.status == 401:
                raise Unauthorized(
                    f"login attempt to {url} failed with status: 401 Unauthorized"
                    if "basic" in response.headers.get("WWW-Authenticate", "").lower()
                    else f'Get "{url}": {await _refusal(response)}'
                )
            if response.status != 200:
                raise Unavailable(f"login attempt to {url} failed with status: {_status_line(response)}")
        await self.authorizer.obtain_identity()
        return self.authorizer.identity_token

    async def resolve(self, name: str, reference: str) -> str | None:
        """The digest of a tag without its manifest; None when the registry does not tell."""
        url = await self._url(name, "manifests", reference)
        headers = {"Accept": ACCEPTED_MANIFESTS}
        async with self._exchange("HEAD", url, pull_scope(name), headers, refuse=False) as response:
            digest = response.headers.get("Docker-Content-Digest", "")
            return digest if response.status == 200 and DIGEST.fullmatch(digest) else None

    async def fetch_manifest(self, name: str, reference: str) -> FetchedManifest:
        """A manifest or index by tag or digest, verified against the digest.

        Raises RegistryRefusal, ConnectionFailed, and InvalidParameter for a wrong digest or size.
        """
        url = await self._url(name, "manifests", reference)
        async with self._exchange("GET", url, pull_scope(name), {"Accept": ACCEPTED_MANIFESTS}) as response:
            content = await _read_limited(response, LARGEST_MANIFEST_BYTES)
            promised = response.headers.get("Docker-Content-Digest", "")
            media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        if len(content) > LARGEST_MANIFEST_BYTES:
            raise InvalidParameter(f"the manifest of {name} is larger than {LARGEST_MANIFEST_BYTES} bytes")
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
        async with self._exchange("PUT", url, push_scope(name), headers, body):
            pass

    @asynccontextmanager
    async def open_blob(self, name: str, blob: Descriptor, offset: int = 0) -> AsyncIterator[BlobStream]:
        """Stream a blob from byte offset on; foreign layers come from the URLs of their descriptor."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        url = await self._url(name, "blobs", blob.digest)
        if blob.urls:
            url = URL(blob.urls[0])
        async with self._exchange("GET", url, pull_scope(name), headers) as response:
            start = offset if response.status == HTTPStatus.PARTIAL_CONTENT else 0
            yield BlobStream(start, _chunks(response, url))

    async def has_blob(self, name: str, digest: str, pushing: bool = True) -> bool:
        """Whether the repository holds a blob."""
        url = await self._url(name, "blobs", digest)
        scope = push_scope(name) if pushing else pull_scope(name)
        async with self._exchange("HEAD", url, scope, refuse=False) as response:
            if response.status in (401, 403) or response.status >= 500:
                raise await _refusal(response)
            return response.status == 200

    async def start_upload(self, name: str, mount: str = "", source: str = "") -> Upload | None:
        """Begin to upload a blob; None when the blob ``mount`` could be taken over from ``source``."""
        url = await self._url(name, "blobs", "uploads/")
        scope = push_scope(name)
        if mount:
            url = url.with_query({"mount": mount, "from": source})
            scope += " " + pull_scope(source)
        async with self._exchange("POST", url, scope, {"Content-Length": "0"}) as response:
            return None if response.status == HTTPStatus.CREATED else Upload(_location(response))

    async def send(self, name: str, upload: Upload, body: Body, size: int) -> None:
        """Append size bytes to an upload."""
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(size),
            "Content-Range": f"{upload.offset}-{upload.offset + size - 1}",
        }
        async with self._exchange("PATCH", upload.location, push_scope(name), headers, body) as response:
            upload.location = _location(response)
            upload.offset += size

    async def refresh_upload(self, name: str, upload: Upload) -> None:
        """Ask how many bytes of a broken upload arrived, to go on from there."""
        async with self._exchange("GET", upload.location, push_scope(name)) as response:
            last = response.headers.get("Range", "").removeprefix("bytes=").partition("-")[2]
            upload.offset = int(last) + 1 if last.isdigit() and last != "0" else 0
            if "Location" in response.headers:
                upload.location = _location(response)

    async def commit(self, name: str, upload: Upload, digest: str) -> None:
        """Finish an upload; the registry verifies the digest."""
        url = upload.location.update_query({"digest": digest})
        async with self._exchange("PUT", url, push_scope(name), {"Content-Length": "0"}):
            pass

    async def tags(self, name: str) -> list[str]:
        """All tags of a repository, in the registry's order."""
        found: list[str] = []
        url: URL | None = await self._url(name, "tags", "list")
        while url is not None:
            async with self._exchange("GET", url, pull_scope(name)) as response:
                found += msgspec.json.decode(await response.read(), type=_TagList).tags or []
                following = _NEXT_PAGE.search(response.headers.get("Link", ""))
                url = response.url.join(URL(following[1])) if following else None
        return found

    async def _url(self, name: str, kind: str, rest: str) -> URL:
        return (await self.base()).with_path(f"/v2/{name}/{kind}/{rest}")

    async def _find_base(self) -> URL:
        failure: SeomError | None = None
        answered: URL | None = None
        for scheme in schemes(self.host, self.settings):
            base = URL(f"{scheme}://{self.host}")
            try:
                async with self._send("GET", base / "v2/", {}) as response:
                    if response.status == 401:
                        self.authorizer.challenged(response.headers.get("WWW-Authenticate", ""), "", "")
                    if response.status != 400:
                        return base
                    answered = base
            except ConnectionFailed as error:
                failure = failure or error
        if answered is not None:
            return answered
        assert failure is not None
        raise failure

    @asynccontextmanager
    async def _exchange(
        self,
        method: str,
        url: URL,
        scope: str,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        refuse: bool = True,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request with sign-in; statuses from 400 on raise RegistryRefusal unless refuse is False."""
        origin = (await self.base()).origin()
        for last_try in (False, True):
            authorization = ""
            if url.origin() == origin:
                try:
                    authorization = await self.authorizer.header(scope)
                except (Unauthorized, Unavailable) as error:
                    raise type(error)(f'{method.capitalize()} "{url}": {error}') from error
            signed = {**(headers or {}), **({"Authorization": authorization} if authorization else {})}
            async with self._send(method, url, signed, body) as response:
                if response.status == 401 and not last_try:
                    demand = ", ".join(response.headers.getall("WWW-Authenticate", []))
                    if self.authorizer.challenged(demand, scope, authorization):
                        continue
                if refuse and response.status >= 400:
                    raise await _refusal(response)
                yield response
                return

    @asynccontextmanager
    async def _send(
        self, method: str, url: URL, headers: Mapping[str, str], body: Body | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request, following redirects of GET and HEAD; credentials never go to another origin."""
        origin = url.origin()
        for _ in range(MOST_REDIRECTS):
            response = await self._send_once(method, url, headers, body)
            try:
                location = response.headers.get("Location")
                if method not in ("GET", "HEAD") or response.status not in _REDIRECTS or not location:
                    yield response
                    return
            finally:
                response.release() if response.content.is_eof() else response.close()
            url = url.join(URL(location, encoded=True))
            if url.origin() != origin:
                headers = {name: value for name, value in headers.items() if name != "Authorization"}
        raise ConnectionFailed(f'{method.capitalize()} "{url}": stopped after {MOST_REDIRECTS} redirects')

    async def _send_once(
        self, method: str, url: URL, headers: Mapping[str, str], body: Body | None
    ) -> aiohttp.ClientResponse:
        if url.scheme not in ("http", "https") or not url.host:
            raise ConnectionFailed(f'{method.capitalize()} "{url}": unsupported address')
        options: dict[str, Any] = {}
        own_failures: list[Exception] = []
        if body is not None:
            options["data"] = _watched(body(), own_failures)
        try:
            return await self._session.request(
                method,
                url,
                headers=headers,
                allow_redirects=False,
                ssl=self._context(url.authority) if url.scheme == "https" else True,
                proxy=proxy_for(url.scheme, url.authority),
                **options,
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            if own_failures:
                raise own_failures[0] from None
            raise connection_failed(method, url, error) from error

    def _context(self, host: str) -> ssl.SSLContext:
        if host not in self._contexts:
            self._contexts[host] = tls_context(host, self.settings)
        return self._contexts[host]

    async def _fetch_token(self, request: TokenRequest) -> TokenAnswer:
        url = URL(request.realm)
        if url.scheme != "https" and not (
            is_insecure(url.authority, self.settings) or is_insecure(self.host, self.settings)
        ):
            raise Unauthorized(f"refusing to sign in at {url}: its plain HTTP would show the password")
        headers = {"Authorization": f"Basic {request.basic}"} if request.basic else {}
        body: Body | None = None
        if request.post:
            form = aiohttp.FormData(request.fields)().decode()
            headers |= {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(form))}

            async def body() -> AsyncIterator[bytes]:
                yield form.encode()
        else:
            url = url.extend_query(request.fields)
        method = "POST" if request.post else "GET"
        async with self._send(method, url, headers, body) as response:
            if response.status >= 500:
                raise Unavailable(f"the token server {url.origin()} answered {_status_line(response)}")
            if response.status >= 400:
                raise Unauthorized(str(await _refusal(response)))
            try:
                return msgspec.json.decode(await response.read(), type=TokenAnswer)
            except msgspec.MsgspecError as error:
                raise Unavailable(f"the token server {url.origin()} sent no valid token: {error}") from error


def pull_scope(name: str) -> str:
    """The token scope to read a repository."""
    return f"repository:{name}:pull"


def push_scope(name: str) -> str:
    """The token scope to write a repository."""
    return f"repository:{name}:pull,push"


def connection_failed(method: str, url: URL, error: Exception) -> ConnectionFailed:
    """What went wrong with a connection, in words that name the way out."""
    prefix = f'{method.capitalize()} "{url}": '
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = getattr(error.certificate_error, "verify_message", "") or str(error.certificate_error)
        return ConnectionFailed(
            f"{prefix}tls: failed to verify certificate: x509: {reason}; if you trust this registry, put "
            f"its authority's certificate into /etc/docker/certs.d/{url.authority}/ca.crt"
        )
    if isinstance(error, aiohttp.ClientSSLError) and "WRONG_VERSION_NUMBER" in str(error):
        return ConnectionFailed(
            f"{prefix}http: server gave HTTP response to HTTPS client; if this registry may be used without "
            "TLS, list it as insecure"
        )
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return ConnectionFailed(
            f"{prefix}dial tcp: lookup {url.host}: no such host; check the name, the network, or HTTPS_PROXY"
        )
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        reason = os.strerror(number).lower() if number else str(error.os_error)
        return ConnectionFailed(f"{prefix}dial tcp {error.host}:{error.port}: connect: {reason}")
    if isinstance(error, TimeoutError):
        return ConnectionFailed(f"{prefix}no answer in time (Client.Timeout exceeded)")
    return ConnectionFailed(f"{prefix}{error or type(error).__name__}")


async def _watched(body: AsyncIterator[bytes], failures: list[Exception]) -> AsyncIterator[bytes]:
    """The same body; what it raises itself is kept apart from failures of the connection."""
    try:
        async for chunk in body:
            yield chunk
    except Exception as error:
        failures.append(error)
        raise


async def _chunks(response: aiohttp.ClientResponse, url: URL) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.content.iter_any():
            yield chunk
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise connection_failed("GET", url, error) from error


async def _read_limited(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body, cut off one byte after limit."""
    content = bytearray()
    async for chunk in _chunks(response, response.url):
        content += chunk
        if len(content) > limit:
            break
    return bytes(content[: limit + 1])


async def _refusal(response: aiohttp.ClientResponse) -> RegistryRefusal:
    """The error an answer describes, in the words registry clients use: ``code in words: message``."""
    fallback = _CODE_OF_STATUS.get(response.status, "UNKNOWN")
    if response.status == 401 and _lacks_scope(response):
        return RegistryRefusal(401, "DENIED", "denied: requested access to the resource is denied")
    try:
        body = await _read_limited(response, _ERROR_BODY_BYTES)
        decoded = msgspec.json.decode(body, type=_ErrorBody)
    except (msgspec.MsgspecError, UnicodeDecodeError, ConnectionFailed):
        decoded = _ErrorBody()
    texts = [f"{item.code.lower().replace('_', ' ')}: {item.message}" for item in decoded.errors]
    if texts:
        text = texts[0] if len(texts) == 1 else "errors:\n" + "\n".join(texts)
        return RegistryRefusal(response.status, decoded.errors[0].code or fallback, text)
    if response.status == 401:
        text = f"unauthorized: {decoded.details or 'authentication required'}"
    elif response.status == 403:
        text = "denied: requested access to the resource is denied"
    else:
        text = f"unexpected status from {response.method} request to {response.url}: {_status_line(response)}"
    return RegistryRefusal(response.status, fallback, text)


def _lacks_scope(response: aiohttp.ClientResponse) -> bool:
    """Whether the token was good, but not for this (RFC 6750, section 3.1)."""
    demand = ", ".join(response.headers.getall("WWW-Authenticate", []))
    return any(
        challenge.parameters.get("error") == "insufficient_scope" for challenge in parse_challenges(demand)
    )


def _status_line(response: aiohttp.ClientResponse) -> str:
    return f"{response.status} {response.reason or ''}".strip()


def _location(response: aiohttp.ClientResponse) -> URL:
    location = response.headers.get("Location")
    if not location:
        raise ConnectionFailed(f"{response.method} {response.url}: the registry did not say where to go on")
    return response.url.join(URL(location, encoded=True))
