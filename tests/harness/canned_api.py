"""A small HTTP server on a unix socket that gives prepared answers and remembers what was asked."""

from __future__ import annotations

import json
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Question:
    """One request as it came in; the version prefix is taken from the path."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class CannedApi:
    """Answers by "METHOD /path": a JSON value, bytes, or (status, value); a context manager."""

    path: Path
    answers: dict[str, Any]
    questions: list[Question] = field(default_factory=list)
    connections: list[socket.socket] = field(default_factory=list)

    def __enter__(self) -> CannedApi:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                api.respond(self)

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_any

            def log_message(self, *arguments: object) -> None:
                pass

            def address_string(self) -> str:
                return "unix"

        self.server = ThreadingUnixStreamServer(str(self.path), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.path.unlink(missing_ok=True)

    def asked(self, method: str, path: str) -> Question:
        """The last such request."""
        return [q for q in self.questions if q.method == method and q.path == path][-1]

    def respond(self, handler: BaseHTTPRequestHandler) -> None:
        """Read one request, remember it, answer it."""
        url = urlsplit(handler.path)
        path = url.path
        if path.startswith("/v1."):
            path = "/" + path.split("/", 2)[2]
        body = read_body(handler)
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.connections.append(handler.connection)
        self.questions.append(Question(handler.command, path, parse_qs(url.query), headers, body))
        answer = self.answers.get(f"{handler.command} {path}", (404, {"message": f"page not found: {path}"}))
        status, value = answer if isinstance(answer, tuple) else (200, answer)
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        handler.send_response(status)
        handler.send_header("Api-Version", "1.50")
        handler.send_header("Ostype", "linux")
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(content)


def read_body(handler: BaseHTTPRequestHandler) -> bytes:
    """The body of a request, chunked or of known length."""
    if "chunked" not in handler.headers.get("Transfer-Encoding", ""):
        return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    pieces = []
    while size := int(handler.rfile.readline(), 16):
        pieces.append(handler.rfile.read(size))
        handler.rfile.readline()
    handler.rfile.readline()
    return b"".join(pieces)
