"""The registry client against Debian's docker-registry: plain, with TLS and a password, with tokens."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar

import pytest

from seom.errors import InvalidParameter, SeomError, Unauthorized
from seom.images.auth import ANONYMOUS, Credentials
from seom.images.endpoint import RegistrySettings
from seom.images.registry import RegistryClient
from seom.images.registry_errors import ConnectionFailed, RegistryRefusal
from seom.oci.descriptor import Descriptor
from seom.oci.manifest import OCI_CONFIG, OCI_MANIFEST
from tests.harness.fault_proxy import Damage, FaultProxy
from tests.harness.registry import IDENTITY_TOKEN, PASSWORD, USER, Authority, Registry, TokenServer

T = TypeVar("T")

KNOWN = Credentials(username=USER, password=PASSWORD)
MISTAKEN = Credentials(username=USER, password="wrong")
CONTENT = bytes(range(256)) * 4000
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
BLOB = Descriptor("application/octet-stream", DIGEST, len(CONTENT))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry(tmp_path_factory.mktemp("plain")) as registry:
        yield registry


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certs.d")


@pytest.fixture(scope="module")
def secured(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, certificates: Path
) -> Iterator[Registry]:
    with Registry(tmp_path_factory.mktemp("secured"), authority=authority, password=True) as registry:
        authority.trust_for(registry.host, certificates)
        yield registry


@pytest.fixture(scope="module")
def token_server(authority: Authority) -> Iterator[TokenServer]:
    server = TokenServer(authority)
    yield server
    server.close()


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory, token_server: TokenServer) -> Iterator[Registry]:
    with Registry(tmp_path_factory.mktemp("tokens"), tokens=token_server) as registry:
        yield registry


def talk(
    host: str,
    conversation: Callable[[RegistryClient], Awaitable[T]],
    credentials: Credentials = ANONYMOUS,
    settings: RegistrySettings | None = None,
) -> T:
    """Hold a conversation with a registry, from opening to closing the client."""

    async def hold() -> T:
        chosen = settings or RegistrySettings(certificate_folders=(), retry_delay_s=0.01)
        async with RegistryClient(host, credentials, chosen) as client:
            return await conversation(client)

    return asyncio.run(hold())


async def upload(client: RegistryClient, name: str, content: bytes = CONTENT) -> None:
    digest = "sha256:" + hashlib.sha256(content).hexdigest()

    async def body() -> AsyncIterator[bytes]:
        yield content

    started = await client.start_upload(name)
    assert started is not None
    await client.send(name, started, body, len(content))
    await client.commit(name, started, digest)


async def put_image(client: RegistryClient, name: str, tag: str) -> bytes:
    await upload(client, name)
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": DIGEST, "size": len(CONTENT)},
        "layers": [],
    }
    content = json.dumps(manifest).encode()
    await client.put_manifest(name, tag, content, OCI_MANIFEST)
    return content


async def everything(client: RegistryClient) -> None:
    """Store a blob and a manifest, mount, and read all of it back."""
    assert not await client.has_blob("a/new", DIGEST)
    content = await put_image(client, "a/first", "one")
    assert await client.has_blob("a/first", DIGEST)
    assert await client.start_upload("a/second", mount=DIGEST, source="a/first") is None
    assert await client.has_blob("a/second", DIGEST)
    fetched = await client.fetch_manifest("a/first", "one")
    assert (fetched.content, fetched.media_type) == (content, OCI_MANIFEST)
    assert await client.resolve("a/first", "one") == fetched.digest
    assert (await client.fetch_manifest("a/first", fetched.digest)).content == content
    async with client.open_blob("a/first", BLOB, 1000) as stream:
        assert stream.start == 1000
        assert b"".join([chunk async for chunk in stream.chunks]) == CONTENT[1000:]


def test_a_plain_registry_on_loopback_needs_neither_tls_nor_account(plain: Registry) -> None:
    talk(plain.host, everything)


def test_tls_with_its_own_authority_and_a_password(secured: Registry, certificates: Path) -> None:
    talk(secured.host, everything, KNOWN, RegistrySettings(certificate_folders=(certificates,)))


def test_a_token_server_is_asked_for_each_scope(tokens: Registry, token_server: TokenServer) -> None:
    token_server.requests.clear()
    talk(tokens.host, everything, KNOWN)
    asked = [" ".join(fields.get("scope", [])) for _, fields in token_server.requests]
    assert len(asked) == len(set(asked)), asked
    assert "repository:a/second:pull,push repository:a/first:pull" in asked


def test_an_identity_token_opens_what_the_password_does(tokens: Registry) -> None:
    identity = talk(tokens.host, RegistryClient.check_login, KNOWN)
    assert identity == IDENTITY_TOKEN
    talk(tokens.host, lambda client: upload(client, "by/identity"), Credentials(identitytoken=identity))


def test_an_expired_token_is_replaced_in_the_middle_of_a_conversation(tokens: Registry) -> None:
    async def outlive_a_token(client: RegistryClient) -> None:
        await upload(client, "expired/token")
        for token in client._http.authorizer._tokens.values():
            token.value = "stale"
        await put_image(client, "expired/token", "later")

    talk(tokens.host, outlive_a_token, KNOWN)


def test_login_succeeds_with_the_right_password_only(
    plain: Registry, secured: Registry, tokens: Registry, certificates: Path
) -> None:
    settings = RegistrySettings(certificate_folders=(certificates,))
    assert talk(secured.host, RegistryClient.check_login, KNOWN, settings) == ""
    with pytest.raises(
        Unauthorized,
        match=rf"login attempt to https://{secured.host}/v2/ failed with status: 401 Unauthorized",
    ):
        talk(secured.host, RegistryClient.check_login, MISTAKEN, settings)
    with pytest.raises(
        Unauthorized, match=rf'Get "http://{tokens.host}/v2/": unauthorized: incorrect username or password'
    ):
        talk(tokens.host, RegistryClient.check_login, MISTAKEN)
    assert talk(plain.host, RegistryClient.check_login, KNOWN) == ""


def test_without_credentials_the_error_says_what_is_missing(
    secured: Registry, tokens: Registry, certificates: Path
) -> None:
    settings = RegistrySettings(certificate_folders=(certificates,))
    with pytest.raises(Unauthorized, match="no basic auth credentials"):
        talk(secured.host, lambda client: client.fetch_manifest("a/first", "one"), settings=settings)
    with pytest.raises(RegistryRefusal, match="denied: requested access to the resource is denied"):
        talk(tokens.host, lambda client: upload(client, "a/first"))


def test_a_certificate_nobody_vouches_for_is_refused_with_the_way_out(
    secured: Registry, tmp_path: Path, authority: Authority
) -> None:
    other = Authority(tmp_path / "other")
    other.trust_for(secured.host, tmp_path / "certs.d")
    settings = RegistrySettings(certificate_folders=(tmp_path / "certs.d",))
    with pytest.raises(ConnectionFailed, match=rf"x509: .*certs\.d/{secured.host}/ca\.crt"):
        talk(secured.host, RegistryClient.check_login, KNOWN, settings)


def test_loopback_with_an_unknown_certificate_is_accepted_as_docker_does(secured: Registry) -> None:
    base = talk(secured.host, RegistryClient.base)
    assert base.scheme == "https"


def test_unknown_manifests_and_repositories_are_named_by_the_registrys_code(plain: Registry) -> None:
    with pytest.raises(RegistryRefusal, match="manifest unknown: manifest unknown") as refused:
        talk(plain.host, lambda client: client.fetch_manifest("no/such", "tag"))
    assert (refused.value.status, refused.value.code) == (404, "MANIFEST_UNKNOWN")
    with pytest.raises(RegistryRefusal) as refused:
        talk(plain.host, lambda client: client.tags("no/such"))
    assert refused.value.code == "NAME_UNKNOWN"


def test_all_tags_are_listed_however_many_pages_they_take(plain: Registry) -> None:
    async def many_tags(client: RegistryClient) -> list[str]:
        content = await put_image(client, "many/tags", "t000")
        for number in range(1, 130):
            await client.put_manifest("many/tags", f"t{number:03}", content, OCI_MANIFEST)
        return await client.tags("many/tags")

    assert sorted(talk(plain.host, many_tags)) == [f"t{number:03}" for number in range(130)]


def test_an_upload_goes_on_where_it_broke(plain: Registry) -> None:
    async def break_and_go_on(client: RegistryClient) -> bool:
        async def first() -> AsyncIterator[bytes]:
            yield CONTENT[:300_000]

        async def rest() -> AsyncIterator[bytes]:
            yield CONTENT[300_000:]

        started = await client.start_upload("broken/upload")
        assert started is not None
        await client.send("broken/upload", started, first, 300_000)
        started.offset = 0
        await client.refresh_upload("broken/upload", started)
        assert started.offset == 300_000
        await client.send("broken/upload", started, rest, len(CONTENT) - 300_000)
        await client.commit("broken/upload", started, DIGEST)
        return await client.has_blob("broken/upload", DIGEST)

    assert talk(plain.host, break_and_go_on)


def test_a_manifest_damaged_on_the_way_is_refused(plain: Registry) -> None:
    content = talk(plain.host, lambda client: put_image(client, "damaged/way", "one"))
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    with FaultProxy(plain.port) as proxy:
        proxy.plan(f"GET /v2/damaged/way/manifests/{digest}", Damage.CORRUPT, after_bytes=600)
        with pytest.raises(InvalidParameter, match=f"manifest verification failed for digest {digest}"):
            talk(proxy.host, lambda client: client.fetch_manifest("damaged/way", digest))


def test_an_unreachable_registry_is_an_error_at_once_and_not_a_hang(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        port = registry.port
    with pytest.raises(ConnectionFailed, match=rf"dial tcp 127\.0\.0\.1:{port}: connect: connection refused"):
        talk(f"127.0.0.1:{port}", RegistryClient.base)
    with pytest.raises(SeomError, match=r"lookup registry\.invalid: no such host"):
        talk("registry.invalid", RegistryClient.base)


def test_a_registry_that_never_answers_times_out() -> None:
    async def against_a_silent_server() -> None:
        async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        settings = RegistrySettings(certificate_folders=(), connect_timeout_s=0.3, read_timeout_s=0.3)
        async with server, RegistryClient(f"127.0.0.1:{port}", ANONYMOUS, settings) as client:
            with pytest.raises(ConnectionFailed, match="no answer in time"):
                await client.base()

    asyncio.run(against_a_silent_server())


class RedirectingRegistry:
    """A registry (basic sign-in) that sends for its blobs to another host, and that host."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.seen_elsewhere: list[bytes] = []

    async def open(self, stack: AsyncExitStack) -> str:
        other = await stack.enter_async_context(await asyncio.start_server(self._elsewhere, "127.0.0.1", 0))
        self.other_host = f"127.0.0.1:{other.sockets[0].getsockname()[1]}"
        registry = await stack.enter_async_context(await asyncio.start_server(self._registry, "127.0.0.1", 0))
        return f"127.0.0.1:{registry.sockets[0].getsockname()[1]}"

    async def _elsewhere(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen_elsewhere.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self.answer.replace(b"HOST", self.other_host.encode()))
        writer.close()

    async def _registry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if b"Authorization: Basic" not in request:
            head = 'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm="x"\r\n'
        else:
            head = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{self.other_host}/blob\r\n"
        writer.write(f"{head}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
        writer.close()

    def fetch(self) -> bytes:
        async def inside() -> bytes:
            async with AsyncExitStack() as stack:
                host = await self.open(stack)
                client = RegistryClient(host, KNOWN, RegistrySettings(certificate_folders=()))
                async with client, client.open_blob("a/b", BLOB) as stream:
                    return b"".join([chunk async for chunk in stream.chunks])

        return asyncio.run(inside())


def test_credentials_do_not_follow_a_redirect_to_another_host() -> None:
    registry = RedirectingRegistry(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nblob")
    assert registry.fetch() == b"blob"
    assert len(registry.seen_elsewhere) == 1 and b"Authorization" not in registry.seen_elsewhere[0]


def test_another_host_cannot_ask_for_the_password() -> None:
    registry = RedirectingRegistry(
        b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm="http://HOST/token",service="x"\r\n'
        b"Content-Length: 0\r\nConnection: close\r\n\r\n"
    )
    with pytest.raises(RegistryRefusal, match="unauthorized"):
        registry.fetch()
    assert len(registry.seen_elsewhere) == 1 and b"Authorization" not in registry.seen_elsewhere[0]


def test_an_answer_without_end_is_cut_off() -> None:
    async def against_an_endless_server() -> None:
        async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            request = await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            try:
                while b"tags/list" in request:
                    writer.write(b" " * 65536)
                    await writer.drain()
            except ConnectionError:
                pass
            writer.close()

        server = await asyncio.start_server(endless, "127.0.0.1", 0)
        host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, RegistryClient(host, ANONYMOUS, RegistrySettings()) as client:
            with pytest.raises(InvalidParameter, match="is larger than"):
                await client.tags("a/b")

    asyncio.run(against_an_endless_server())


def test_a_proxy_carries_requests_to_registries_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    async def through_a_proxy() -> None:
        async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(await reader.readuntil(b"\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            writer.close()

        server = await asyncio.start_server(proxy, "127.0.0.1", 0)
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        monkeypatch.delenv("HTTPS_PROXY", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        settings = RegistrySettings(certificate_folders=(), insecure=("registry.invalid",))
        async with server, RegistryClient("registry.invalid", ANONYMOUS, settings) as client:
            assert (await client.base()).scheme == "http"

    asyncio.run(through_a_proxy())
    assert asked == [b"GET http://registry.invalid/v2/ HTTP/1.1\r\n"]
