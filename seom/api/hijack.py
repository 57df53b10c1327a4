"""Turning an HTTP connection into a raw stream (attach, exec start).

    client                      daemon                         monitor
      | POST .../attach            |                              |
      |--------------------------->| pause reading                |
      |<-- 101 UPGRADED -----------|                              |
      |                            | dup the socket, close ours   |
      |                            |------ socket (SCM_RIGHTS) -->|
      |<=========== raw or framed bytes =========================>|

After the hand-over the daemon is out of the data path: streams survive its restart.
"""

from __future__ import annotations

import os
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

RAW_STREAM = "application/vnd.docker.raw-stream"
MULTIPLEXED_STREAM = "application/vnd.docker.multiplexed-stream"


class HandedOver(web.StreamResponse):
    """What a handler returns once the connection is no longer the server's."""

    def __init__(self) -> None:
        super().__init__()
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


def hijack(request: web.Request, content_type: str) -> tuple[int, bytes]:
    """Answer the upgrade and take the connection: (file descriptor, bytes already read).

    The descriptor is the caller's. Raises ConnectionError when the client is gone.
    """
    transport: Any = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client went away")
    transport.pause_reading()
    protocol: Any = request.protocol
    early: bytes = bytes(protocol._message_tail)
    protocol._message_tail = b""
    transport.write(_answer(request, content_type))
    descriptor = os.dup(transport.get_extra_info("socket").fileno())
    transport.abort()
    os.set_blocking(descriptor, False)
    return descriptor, early


def _answer(request: web.Request, content_type: str) -> bytes:
    if request.headers.get("Upgrade"):
        status = "101 UPGRADED"
        upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n"
    else:
        status, upgrade = "200 OK", ""
    return f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{upgrade}\r\n".encode()
