"""Relays for what destination NAT cannot do: IPv6 clients of containers without IPv6, and clients on ::1.

The kernel translates addresses within one family only, and never lets ::1 leave the loopback. The
sockets that hold published IPv6 ports serve these cases; everything else is translated before it
gets to them. The container sees such a client as the bridge's gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from typing import Any

Target = Callable[[], tuple[str, int] | None]
"""Address and port in the container at this moment; None while it has no way outside."""

_CHUNK_BYTES = 1 << 18
_MAXIMUM_CONNECTIONS = 512
_PAUSE_S = 0.5
_UDP_IDLE_S = 90.0
_MAXIMUM_UDP_CLIENTS = 1024


class Relay:
    """Passes what arrives at a bound socket on to a container, on the running loop, until closed.

    The socket stays its owner's, who closes it after the relay.
    """

    def __init__(self, listener: socket.socket, target: Target) -> None:
        self._listener = listener
        self._target = target
        self._tasks: set[asyncio.Task[None]] = set()
        self._udp_clients: dict[Any, socket.socket] = {}
        self._resuming: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        listener.setblocking(False)
        datagrams = listener.type == socket.SOCK_DGRAM
        self._loop.add_reader(listener.fileno(), self._read_datagrams if datagrams else self._accept)

    def close(self) -> None:
        """Stop accepting and end connections."""
        if self._resuming is not None:
            self._resuming.cancel()
        self._loop.remove_reader(self._listener.fileno())
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:
            # Out of descriptors: the client waits until others have gone.
            self._loop.remove_reader(self._listener.fileno())
            self._resuming = self._loop.call_later(_PAUSE_S, self._resume)
            return
        if len(self._tasks) >= _MAXIMUM_CONNECTIONS:
            connection.close()
        else:
            self._spawn(self._relay_stream(connection))

    def _resume(self) -> None:
        self._loop.add_reader(self._listener.fileno(), self._accept)

    async def _relay_stream(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            target = self._target()
            if target is None:
                return
            client.setblocking(False)
            with socket.socket(_family(target[0]), socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as server:
                server.setblocking(False)
                await self._loop.sock_connect(server, target)
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._copy(client, server))
                    both.create_task(self._copy(server, client))

    async def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        """Copy until the end of the stream, and pass that on (half-close)."""
        with contextlib.suppress(OSError):
            while data := await self._loop.sock_recv(source, _CHUNK_BYTES):
                await self._loop.sock_sendall(sink, data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _read_datagrams(self) -> None:
        with contextlib.suppress(OSError):
            data, client = self._listener.recvfrom(65535)
            target = self._target()
            known = self._udp_clients.get(client)
            if known is not None:
                known.send(data)
            elif target is not None and len(self._udp_clients) < _MAXIMUM_UDP_CLIENTS:
                self._begin_conversation(client, target, data)

    def _begin_conversation(self, client: Any, target: tuple[str, int], data: bytes) -> None:
        server = socket.socket(_family(target[0]), socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        server.setblocking(False)
        server.connect(target)
        server.send(data)
        self._udp_clients[client] = server
        self._spawn(self._return_datagrams(client, server))

    async def _return_datagrams(self, client: Any, server: socket.socket) -> None:
        """Send a client the answers from the container until there are none for a while."""
        with server:
            try:
                while True:
                    async with asyncio.timeout(_UDP_IDLE_S):
                        answer = await self._loop.sock_recv(server, 65535)
                    self._listener.sendto(answer, client)
            except (OSError, TimeoutError):
                pass
            finally:
                del self._udp_clients[client]


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
