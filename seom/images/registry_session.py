"""HTTP with one registry for one account: scheme, sign-in, redirects, certificates, proxy.

One request is one try; to repeat what failed is the caller's part.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from seom import __version__
from seom.errors import InvalidParameter, SeomError, Unauthorized, Unavailable
from seom.images.auth import Authorizer, Credentials, TokenAnswer, TokenRequest
from seom.images.endpoint import (
    RegistrySettings,
    is_insecure,
    proxy_for,
    registry_host,
    schemes,
    tls_context,
)
from seom.images.registry_errors import (
    ConnectionFailed,
    connection_failed,
    demand_of,
    refusal_of,
    status_line,
)

MOST_REDIRECTS = 5
LARGEST_ANSWER_BYTES = 4 << 20
_REDIRECTS = {301, 302, 303, 307, 308}

Body = Callable[[], AsyncIterator[bytes]]


class RegistrySession:
    """Requests to one registry on behalf of one account; close() it."""

    def __init__(
        self,
        domain: str,
        credentials: Credentials,
        settings: RegistrySettings,
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

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def base(self) -> URL:
        """The URL all others start with, found by asking for /v2/ over each permitted scheme.

        The answer's challenge is noted. Raises ConnectionFailed when none answers.
        """
        async with self._finding_base:
            if self._base is None:
                self._base = await self._find_base()
            return self._base

    async def _find_base(self) -> URL:
        failure: SeomError | None = None
        answered: URL | None = None
        for scheme in schemes(self.host, self.settings):
            base = URL(f"{scheme}://{self.host}")
            try:
                async with self._send("GET", base / "v2/", {}) as response:
                    if response.status == 401:
                        self.authorizer.challenged(demand_of(response), "", "")
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
    async def exchange(
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
                # Only the registry itself may say how to sign in: who serves its blobs may be anybody.
                asks = response.status == 401 and response.url.origin() == origin
                demand = demand_of(response) if asks else ""
                if demand and self.authorizer.challenged(demand, scope, authorization) and not last_try:
                    continue
                if refuse and response.status >= 400:
                    raise await refusal_of(response)
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
                ssl=await self._context(url.authority) if url.scheme == "https" else True,
                proxy=proxy_for(url.scheme, url.authority),
                **options,
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            if own_failures:
                raise own_failures[0] from None
            raise connection_failed(method, url, error) from error

    async def _context(self, host: str) -> ssl.SSLContext:
        if host not in self._contexts:  # reading the system's authorities takes 30 ms
            self._contexts[host] = await asyncio.to_thread(tls_context, host, self.settings)
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
                raise Unavailable(f"the token server {url.origin()} answered {status_line(response)}")
            if response.status >= 400:
                raise Unauthorized(str(await refusal_of(response)))
            try:
                return msgspec.json.decode(await read_limited(response), type=TokenAnswer)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise Unavailable(f"the token server {url.origin()} sent no valid token: {error}") from error


async def read_limited(response: aiohttp.ClientResponse, limit: int = LARGEST_ANSWER_BYTES) -> bytes:
    """The body; raises ConnectionFailed when it breaks and InvalidParameter when it is too large."""
    content = bytearray()
    async for chunk in chunks_of(response):
        content += chunk
        if len(content) > limit:
            raise InvalidParameter(f"the answer of {response.url} is larger than {limit} bytes")
    return bytes(content)


async def chunks_of(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The body as it comes; raises ConnectionFailed when it breaks."""
    try:
        async for chunk in response.content.iter_any():
            yield chunk
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise connection_failed("GET", response.url, error) from error


async def _watched(body: AsyncIterator[bytes], failures: list[Exception]) -> AsyncIterator[bytes]:
    """The same body; what it raises itself is kept apart from failures of the connection."""
    try:
        async for chunk in body:
            yield chunk
    except Exception as error:
        failures.append(error)
        raise
