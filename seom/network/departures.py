"""When veth pairs disappear.

A pair goes away with its container's namespace, some milliseconds after the last process and
descriptor; only then may its address be handed out again. The kernel announces it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from seom.linux.netlink import RTM_DELLINK, RTMGRP_LINK, RouteSocket, parse_link


class Departures:
    """Watches for the removal of interfaces of the host's namespace, on the event loop."""

    def __init__(self) -> None:
        self._socket: RouteSocket | None = None
        self._present: set[str] = set()
        self._unsure: set[str] = set()
        self._callbacks: dict[str, Callable[[], None]] = {}

    def open(self) -> None:
        """Start watching; must be called on the running loop's thread."""
        self._socket = RouteSocket(RTMGRP_LINK)
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._read)

    def close(self) -> None:
        """Stop watching; callbacks that wait are dropped."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def expect(self, name: str) -> None:
        """Remember an interface from before it is made, so that its removal cannot be missed."""
        self._present.add(name)

    def when_gone(self, name: str, callback: Callable[[], None]) -> None:
        """Call back once the expected interface is gone, at once when it is already."""
        if name not in self._present:
            callback()
            return
        self._callbacks[name] = callback
        if name in self._unsure:
            self.compare()

    def forget(self, name: str) -> None:
        """The interface was never made, or is known to be gone."""
        self._present.discard(name)
        self._unsure.discard(name)
        callback = self._callbacks.pop(name, None)
        if callback is not None:
            callback()

    def _read(self) -> None:
        assert self._socket is not None
        try:
            for kind, body in self._socket.notifications():
                # A bridge announces the same of its port (family AF_BRIDGE), before the interface goes.
                if kind == RTM_DELLINK and body[0] == socket.AF_UNSPEC:
                    self.forget(parse_link(body).name)
        except OSError:
            # The socket's buffer overflowed. An interface that is missing may be one that is yet to be
            # made, so those in use are looked at when they are waited for.
            self._unsure |= self._present
            self.compare()

    def compare(self) -> None:
        """Notice what went away unseen, of those that are waited for."""
        if not self._callbacks:
            return
        with RouteSocket() as route:
            there = {link.name for link in route.links()}
        for name in self._callbacks.keys() - there:
            self.forget(name)
