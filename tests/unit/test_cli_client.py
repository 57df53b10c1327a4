"""The HTTP client against a real socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from seom.cli.client import Client, query, quote
from seom.cli.errors import CommandError, ConnectionFailed, DaemonError
from tests.harness.canned_api import CannedApi

Serve = Callable[[bytes], Client]


@pytest.fixture
def serve(short_tmp_path: Path) -> Iterator[Serve]:
    """serve(BYTES): a client whose next connection is answered with exactly these bytes."""
    path = short_tmp_path / "s"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def answer(data: bytes) -> Client:
        def work() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(data)

        threading.Thread(target=work, daemon=True).start()
        return Client(f"unix://{path}")

    yield answer
    listener.close()


def test_a_body_of_known_length_is_read_exactly(serve: Serve) -> None:
    response = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").send("GET", "/")
    assert (response.status, response.read()) == (200, b"hello")


def test_a_chunked_body_is_put_together(serve: Serve) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    client = serve(head + b"3\r\nabc\r\nA;ext=1\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n")
    assert client.send("GET", "/").read() == b"abc0123456789"


def test_a_body_without_length_ends_with_the_connection(serve: Serve) -> None:
    assert serve(b"HTTP/1.1 200 OK\r\n\r\nuntil the end").send("GET", "/").read() == b"until the end"


def test_interim_answers_are_passed_over(serve: Serve) -> None:
    client = serve(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")
    assert client.send("POST", "/").status == 204


def test_documents_are_found_over_the_borders_of_chunks(serve: Serve) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    first, second = '{"status":"é'.encode()[:-1], '{"status":"é'.encode()[-1:] + b'"}\r\n{"id":1}{"i'
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (first, second, b'd":2}\n'))
    documents = list(serve(head + chunks + b"0\r\n\r\n").send("GET", "/").documents())
    assert documents == [{"status": "é"}, {"id": 1}, {"id": 2}]


def test_an_upgraded_connection_is_handed_over_with_what_was_already_read(serve: Serve) -> None:
    head = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    connection = serve(head + b"early").connect()
    connection.begin("POST", "/attach")
    raw, early = connection.answer().check().hijack()
    data = early
    while piece := raw.recv(100):
        data += piece
    assert data == b"early"


def test_an_error_status_carries_the_daemons_message(serve: Serve) -> None:
    body = b'{"message":"No such container: x"}\n'
    head = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % len(body)
    with pytest.raises(DaemonError) as caught:
        serve(head + body).get("/containers/x/json")
    assert caught.value.http_status == 404
    assert caught.value.message == "Error response from daemon: No such container: x"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "closed the connection without an answer"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", "in the middle of an answer"),
    ],
)
def test_a_broken_answer_is_explained(serve: Serve, data: bytes, message: str) -> None:
    with pytest.raises(CommandError, match=message):
        serve(data).send("GET", "/").read()


def test_a_missing_daemon_is_explained_with_what_to_do(short_tmp_path: Path) -> None:
    with pytest.raises(ConnectionFailed, match="no such socket; start it with `seomd`"):
        Client(f"unix://{short_tmp_path}/none").get("/info")
    with pytest.raises(ConnectionFailed, match="must be unix://PATH or tcp://HOST:PORT"):
        Client("http://x").get("/info")


def test_one_connection_serves_many_requests_and_bodies_of_every_kind(short_tmp_path: Path) -> None:
    with CannedApi(short_tmp_path / "s", {"POST /a": {"n": 1}, "GET /b": [1, 2]}) as api:
        client = Client(f"unix://{api.path}")
        assert client.call("POST", "/a", {"x": "1 2", "all": True, "none": None}, {"k": "é"}).json() == {
            "n": 1
        }
        assert client.call("POST", "/a", content=(piece for piece in (b"ab", b"", b"cd"))).json() == {"n": 1}
        assert client.get("/b") == [1, 2]
    first, second, _ = api.questions
    assert first.json() == {"k": "é"}
    assert first.query == {"x": ["1 2"], "all": ["1"]}
    assert second.body == b"abcd"


def test_a_connection_that_the_daemon_closed_meanwhile_is_replaced(short_tmp_path: Path) -> None:
    with CannedApi(short_tmp_path / "s", {"GET /b": 1}) as api:
        client = Client(f"unix://{api.path}")
        assert client.get("/b") == 1
    with CannedApi(short_tmp_path / "s", {"GET /b": 2}):
        for connection in api.connections:
            connection.shutdown(socket.SHUT_RDWR)
        assert client.get("/b") == 2


def test_quoting() -> None:
    assert quote("a b&c=é/x:1") == "a%20b%26c%3D%C3%A9/x:1"
    assert (
        query({"a": 0, "b": False, "c": "", "d": ["x", "y"], "e": {"k": [1]}})
        == "?a=0&d=x&d=y&e=%7B%22k%22:%5B1%5D%7D"
    )
