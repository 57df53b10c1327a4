"""Sending messages from an event loop."""

from __future__ import annotations

import asyncio
import socket

from seom.containers import messages
from seom.containers.messages import Adopt, Order, Request


async def send(channel: socket.socket, message: Order | Adopt | Request, descriptors: list[int]) -> None:
    """Send on a non-blocking socket, waiting while it is full. Raises OSError (EPIPE, ECONNRESET)."""
    while True:
        try:
            messages.send(channel, message, descriptors)
        except BlockingIOError:
            await _writable(channel)
        else:
            return


async def _writable(channel: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_writer(channel.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(channel.fileno())
