"""A plain HTTP client for a daemon's unix socket, to talk to the API without any SDK between."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode


@dataclass(frozen=True)
class Response:
    """A whole answer: the status, the headers and the body."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """The text of an error answer."""
        return str(self.json()["message"])


class UnixConnection(http.client.HTTPConnection):
    """http.client over an AF_UNIX stream socket."""

    def __init__(self, path: str | Path, timeout_s: float = 60) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self.path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class ApiClient:
    """Requests to one daemon over one kept connection, opened again when the daemon closed it."""

    def __init__(self, socket_path: str | Path, timeout_s: float = 60) -> None:
        self.connection = UnixConnection(socket_path, timeout_s)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Response:
        """Send a request; a body that is not bytes, a file or None is sent as JSON."""
        headers = dict(headers or {})
        if body is not None and not isinstance(body, bytes) and not hasattr(body, "read"):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        target = f"{path}?{urlencode(query)}" if query else path
        try:
            return self._exchange(method, target, body, headers)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            self.connection.close()
            return self._exchange(method, target, body, headers)

    def get(self, path: str, **query: Any) -> Any:
        """GET, which must succeed; the decoded body."""
        response = self.request("GET", path, query=query)
        assert response.status == 200, (response.status, response.body)
        return response.json()

    def post(self, path: str, body: Any = None, **query: Any) -> Response:
        return self.request("POST", path, body, query=query)

    def delete(self, path: str, **query: Any) -> Response:
        return self.request("DELETE", path, query=query)

    def close(self) -> None:
        self.connection.close()

    def _exchange(self, method: str, target: str, body: Any, headers: dict[str, str]) -> Response:
        self.connection.request(method, target, body, headers)
        answer = self.connection.getresponse()
        return Response(answer.status, dict(answer.getheaders()), answer.read())
