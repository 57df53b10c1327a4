"""A loop around poll(2), for the processes that must stay too small for asyncio."""

from __future__ import annotations

import select
from collections.abc import Callable

READABLE = select.POLLIN
WRITABLE = select.POLLOUT
GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL

Handler = Callable[[int], None]


class Poller:
    """Calls a handler with the events of its descriptor; GONE is always reported."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._handlers: dict[int, Handler] = {}

    def watch(self, descriptor: int, events: int, handler: Handler) -> None:
        """Start watching, or change what an already watched descriptor is watched for."""
        self._poll.register(descriptor, events)
        self._handlers[descriptor] = handler

    def forget(self, descriptor: int) -> None:
        """Stop watching; to be called before the descriptor is closed."""
        if self._handlers.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def run_once(self, timeout_ms: int | None = None) -> None:
        """Wait for events, at most timeout_ms, and handle them."""
        for descriptor, events in self._poll.poll(timeout_ms):
            handler = self._handlers.get(descriptor)
            if handler is not None:
                handler(events)
