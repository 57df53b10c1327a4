"""HTTP/1.1 over a unix socket (or plain TCP): what the Engine API needs and no more.

One connection carries one request at a time. Bodies come by content-length, chunked, or up to
the end of the connection; after a 101 (or a raw-stream 200) the socket itself is taken over.
`_socket` is used directly, because importing `socket` costs as much as a whole command.
"""

from __future__ import annotations

import _socket

from seom.cli import jsontext
from seom.cli.errors import CommandError, ConnectionFailed, DaemonError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/:")
_RECEIVE_BYTES = 65536
_EMPTY_STATUS = frozenset((204, 304))


def quote(text: str) -> str:
    """Percent-encode for a path or a query value; "/" and ":" stay."""
    raw = text.encode("utf-8", "surrogateescape")
    if _UNRESERVED.issuperset(raw):
        return text
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in raw)


def query(parameters: dict[str, object]) -> str:
    """ "?a=1&b=x" from a dict; None, "" and False are left out, True is 1, dicts become JSON."""
    pairs = []
    for name, value in parameters.items():
        values = value if isinstance(value, list) else [value]
        for item in values:
            if item is None or item is False or item == "" or item == {}:
                continue
            text = "1" if item is True else jsontext.encode(item) if isinstance(item, dict) else str(item)
            pairs.append(f"{name}={quote(text)}")
    return "?" + "&".join(pairs) if pairs else ""


class Response:
    """Status, headers (lower case) and a body that is read once, in pieces or whole."""

    def __init__(self, connection: Connection, status: int, headers: dict[str, str], head: bool) -> None:
        self.status = status
        self.headers = headers
        self._connection = connection
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        length = headers.get("content-length")
        if head or status in _EMPTY_STATUS or (length is not None and not self._chunked and int(length) == 0):
            self._left: int | None = 0
            self._chunked = False
        else:
            self._left = int(length) if length is not None and not self._chunked else None

    def pieces(self) -> Iterator[bytes]:
        """The body as it arrives. Raises ConnectionFailed when it is cut short."""
        if self._chunked:
            yield from self._chunks()
        elif self._left is None:
            while piece := self._connection.receive():
                yield piece
        else:
            while self._left:
                piece = self._connection.receive(self._left)
                if not piece:
                    raise ConnectionFailed("the daemon closed the connection in the middle of an answer")
                self._left -= len(piece)
                yield piece

    def _chunks(self) -> Iterator[bytes]:
        connection = self._connection
        while size := int(connection.read_line().split(b";")[0] or b"0", 16):
            while size:
                piece = connection.receive(size)
                if not piece:
                    raise ConnectionFailed("the daemon closed the connection in the middle of an answer")
                size -= len(piece)
                yield piece
            connection.read_line()
        while connection.read_line():
            pass
        self._chunked, self._left = False, 0

    def read(self) -> bytes:
        """The whole body."""
        return b"".join(self.pieces())

    def json(self) -> Any:
        """The whole body as JSON. Raises CommandError when it is none."""
        body = self.read()
        try:
            return jsontext.decode(body)
        except ValueError as error:
            raise CommandError(f"the daemon's answer is not JSON: {error}") from None

    def documents(self) -> Iterator[Any]:
        """JSON documents one after another, as in the progress of a pull or in events."""
        pending = ""
        tail = b""
        for piece in self.pieces():
            text, tail = _decode_whole(tail + piece)
            pending += text
            if "}" not in text:
                continue
            position = 0
            while position != -1 and pending[position:]:
                try:
                    value, following = jsontext.decode_first(pending, position)
                except ValueError:
                    break
                position = following
                yield value
            pending = "" if position == -1 else pending[position:]
        if pending.strip():
            raise CommandError(f"the daemon's answer is not JSON: {pending[:80]!r}")

    def check(self) -> Response:
        """self, or the daemon's message as DaemonError for an error status."""
        if self.status < 400:
            return self
        body = self.read()
        try:
            message = jsontext.decode(body)["message"].strip()
        except (ValueError, KeyError, TypeError, AttributeError):
            message = body.decode("utf-8", "replace").strip() or f"HTTP status {self.status}"
        raise DaemonError(self.status, message)

    def hijack(self) -> tuple[_socket.socket, bytes]:
        """The socket for raw use from now on, and the bytes that were already read from it."""
        return self._connection.detach()


def _decode_whole(data: bytes) -> tuple[str, bytes]:
    """Decode up to the last complete UTF-8 character; the rest waits for more bytes."""
    for cut in range(min(4, len(data))):
        try:
            end = len(data) - cut
            return data[:end].decode(), data[end:]
        except UnicodeDecodeError:
            continue
    return data.decode("utf-8", "replace"), b""


class Connection:
    """One connection to the daemon; requests follow one another on it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = _connect(address)
        self._buffer = b""

    def is_closed(self) -> bool:
        """Whether the daemon has ended it meanwhile, as it does with idle connections and when it ends."""
        try:
            return not self._socket.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        """Close it; a request under way is lost."""
        self._socket.close()

    def detach(self) -> tuple[_socket.socket, bytes]:
        """Give up the socket."""
        buffer, self._buffer = self._buffer, b""
        return self._socket, buffer

    def receive(self, limit: int = _RECEIVE_BYTES) -> bytes:
        """At most limit bytes, from the buffer first; b"" at the end."""
        if self._buffer:
            piece, self._buffer = self._buffer[:limit], self._buffer[limit:]
            return piece
        try:
            return self._socket.recv(min(limit, _RECEIVE_BYTES))
        except ConnectionResetError:
            return b""

    def read_line(self) -> bytes:
        """Up to the next line end, which is taken away."""
        while (end := self._buffer.find(b"\n")) < 0:
            piece = self._socket.recv(_RECEIVE_BYTES)
            if not piece:
                raise ConnectionFailed(
                    "the daemon closed the connection without an answer; its log says why "
                    "(is it being stopped or restarted?)"
                )
            self._buffer += piece
        line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
        return line.rstrip(b"\r")

    def send(self, data: bytes) -> None:
        """All of data; a closed peer is an error here, not a signal."""
        view = memoryview(data)
        while view:
            view = view[self._socket.send(view, _socket.MSG_NOSIGNAL) :]

    def begin(
        self,
        method: str,
        target: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Send a request; its answer is read by `answer`. A body in pieces goes out chunked."""
        lines = [f"{method} {target} HTTP/1.1", "Host: seom", "User-Agent: seom-cli"]
        fields = dict(headers or {})
        if isinstance(body, bytes):
            fields["Content-Length"] = str(len(body))
        elif body is not None:
            fields["Transfer-Encoding"] = "chunked"
        elif method in ("POST", "PUT"):
            fields["Content-Length"] = "0"
        lines.extend(f"{name}: {value}" for name, value in fields.items())
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")
        try:
            if body is None or isinstance(body, bytes):
                self.send(head + (body or b""))
                return
            self.send(head)
            for piece in body:
                if piece:
                    self.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.send(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # the answer, sent before the body was read, says why

    def answer(self, head: bool = False) -> Response:
        """Read status line and headers."""
        try:
            status = 100
            while 100 <= status < 200 and status != 101:
                parts = self.read_line().split(None, 2)
                status = int(parts[1])
                headers: dict[str, str] = {}
                while line := self.read_line():
                    name, _, value = line.partition(b":")
                    headers[name.decode("latin-1").lower()] = value.strip().decode("utf-8", "replace")
        except ConnectionResetError:
            raise ConnectionFailed("the daemon closed the connection without an answer") from None
        except (IndexError, ValueError):
            raise CommandError(f"what answers at {self.address} does not speak HTTP") from None
        return Response(self, status, headers, head)


class Client:
    """Requests to the daemon at one address, over one connection that is opened when needed."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._connection: Connection | None = None

    def connect(self) -> Connection:
        """A connection of one's own, for streams and for requests side by side."""
        return Connection(self.address)

    def close(self) -> None:
        """Drop the connection; the next request opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def send(
        self,
        method: str,
        path: str,
        parameters: dict[str, object] | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
        content: bytes | Iterable[bytes] | None = None,
    ) -> Response:
        """One request; body is sent as JSON, content as it is. The status is not looked at.

        The answer's body must be read before the next request.
        """
        fields = dict(headers or {})
        if body is not None:
            content = jsontext.encode(body).encode("utf-8", "surrogateescape")
            fields["Content-Type"] = "application/json"
        if self._connection is not None and self._connection.is_closed():
            self.close()
        if self._connection is None:
            self._connection = self.connect()
        self._connection.begin(method, path + query(parameters or {}), content, fields)
        response = self._connection.answer(method == "HEAD")
        if response.headers.get("connection", "").lower() == "close":
            self._connection = None
        return response

    def call(
        self,
        method: str,
        path: str,
        parameters: dict[str, object] | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
        content: bytes | Iterable[bytes] | None = None,
    ) -> Response:
        """As send, but an error status raises DaemonError with the daemon's message."""
        return self.send(method, path, parameters, body, headers, content).check()

    def get(self, path: str, parameters: dict[str, object] | None = None) -> Any:
        """GET and decode the JSON answer."""
        return self.call("GET", path, parameters).json()

    def post(self, path: str, parameters: dict[str, object] | None = None, body: Any = None) -> bytes:
        """POST and read the answer's body to its end."""
        return self.call("POST", path, parameters, body).read()

    def delete(self, path: str, parameters: dict[str, object] | None = None) -> bytes:
        """DELETE and read the answer's body to its end."""
        return self.call("DELETE", path, parameters).read()


def _connect(address: str) -> _socket.socket:
    """Connect to unix://PATH or tcp://HOST:PORT. Raises ConnectionFailed with a hint."""
    scheme, _, rest = address.partition("://")
    if address.startswith("/"):
        scheme, rest = "unix", address
    try:
        if scheme == "unix":
            connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
            connection.connect(rest)
            return connection
        if scheme == "tcp":
            return _connect_tcp(rest)
    except OSError as error:
        raise ConnectionFailed(_hint(address, rest, error)) from None
    raise ConnectionFailed(
        f'cannot use the daemon address "{address}": it must be unix://PATH or tcp://HOST:PORT'
    )


def _connect_tcp(rest: str) -> _socket.socket:
    host, _, port = rest.rstrip("/").rpartition(":")
    last: OSError = OSError("no address found")
    for family, kind, protocol, _, where in _socket.getaddrinfo(host.strip("[]"), port or "2375", 0, 1):
        connection = _socket.socket(family, kind, protocol)
        try:
            connection.connect(where)
        except OSError as error:
            last = error
            connection.close()
            continue
        connection.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        return connection
    raise last


def _hint(address: str, path: str, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return (
            f"cannot connect to the Seom daemon at {address}: permission denied; "
            f"run this as root, or as a member of the group that owns {path}"
        )
    reason = (
        "there is no such socket" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
    )
    if isinstance(error, ConnectionRefusedError):
        reason = "nothing listens there"
    return (
        f"cannot connect to the Seom daemon at {address}: {reason}; "
        "start it with `seomd` as root, or set SEOM_HOST to the address of a running one"
    )
