"""The smallest HTTP/1.1 client for a unix socket: what it costs itself does not blur a measurement."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any


class RawConnection:
    """One kept connection; requests one after another."""

    def __init__(self, path: str | Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(str(path))
        self.buffer = b""

    def request(self, method: str, target: str, body: Any = None) -> tuple[int, bytes]:
        """Send a request and read the whole answer: the status and the body."""
        self.send(method, target, body)
        status, headers = self.read_head()
        if status == 204 or method == "HEAD":
            return status, b""
        if b"content-length" in headers:
            return status, self.read_exactly(int(headers[b"content-length"]))
        if headers.get(b"transfer-encoding") == b"chunked":
            return status, self.read_chunks()
        return status, self.read_to_end()

    def expect(self, method: str, target: str, body: Any = None) -> bytes:
        """A request that must succeed."""
        status, content = self.request(method, target, body)
        if status >= 300:
            raise RuntimeError(f"{method} {target}: {status} {content[:300]!r}")
        return content

    def send(self, method: str, target: str, body: Any = None) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        kind = "Content-Type: application/json\r\n" if body is not None else ""
        head = f"{method} {target} HTTP/1.1\r\nHost: d\r\n{kind}Content-Length: {len(content)}\r\n\r\n"
        self.socket.sendall(head.encode() + content)

    def send_file(self, target: str, path: Path) -> bytes:
        """POST a file as a tar archive, by sendfile; the answer's body."""
        size = path.stat().st_size
        kind = "Content-Type: application/x-tar\r\n"
        head = f"POST {target} HTTP/1.1\r\nHost: d\r\n{kind}Content-Length: {size}\r\n\r\n"
        self.socket.sendall(head.encode())
        with path.open("rb") as file:
            self.socket.sendfile(file)
        status, headers = self.read_head()
        if headers.get(b"transfer-encoding") == b"chunked":
            content = self.read_chunks()
        else:
            content = self.read_exactly(int(headers.get(b"content-length", b"0")))
        if status >= 300:
            raise RuntimeError(f"POST {target}: {status} {content[:300]!r}")
        return content

    def read_head(self) -> tuple[int, dict[bytes, bytes]]:
        while b"\r\n\r\n" not in self.buffer:
            self.fill()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        pairs = (line.partition(b":") for line in lines)
        return int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}

    def read_exactly(self, length: int) -> bytes:
        while len(self.buffer) < length:
            self.fill()
        content, self.buffer = self.buffer[:length], self.buffer[length:]
        return content

    def read_chunks(self) -> bytes:
        content = b""
        while True:
            while b"\r\n" not in self.buffer:
                self.fill()
            line, _, self.buffer = self.buffer.partition(b"\r\n")
            chunk = self.read_exactly(int(line, 16) + 2)[:-2]
            if not chunk:
                return content
            content += chunk

    def read_to_end(self) -> bytes:
        while chunk := self.socket.recv(65536):
            self.buffer += chunk
        content, self.buffer = self.buffer, b""
        return content

    def fill(self) -> None:
        chunk = self.socket.recv(65536)
        if not chunk:
            raise ConnectionError("the daemon closed the connection")
        self.buffer += chunk

    def close(self) -> None:
        self.socket.close()
