"""Prepared network namespaces: made ahead of time, so that a container's start does not wait for one.

A prepared namespace has its loopback interface up and Docker's defaults for new containers
(unprivileged ports from 0, ping for every group, no IPv6 on interfaces until a network brings it).
It exists as a descriptor only: when the daemon dies the kernel removes what no container uses.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from seom.linux.netlink import RouteSocket, bring_up
from seom.linux.network_namespace import enter_network, in_own_thread, open_own_network, unshare_network
from seom.network.dns_sockets import DnsSockets, open_dns_sockets_here

LOOPBACK_INDEX = 1
POOL_SIZE = 8
_QUIET_S = 0.02
_RETRY_S = 1.0

_SYSCTLS = (
    ("ipv4/ip_unprivileged_port_start", b"0"),
    ("ipv4/ping_group_range", b"0 2147483647"),
    ("ipv6/conf/default/disable_ipv6", b"1"),
)


@dataclass(slots=True)
class Namespace:
    """A network namespace and a netlink socket inside it."""

    fd: int
    route: RouteSocket
    next_index: int
    dns: DnsSockets | None = None

    def close(self) -> None:
        """Let go of the namespace; the kernel removes it when no process is left in it."""
        if self.dns is not None:
            self.dns.close()
        os.close(self.detach())

    def detach(self) -> int:
        """The descriptor, which is the caller's from now on; the socket is closed."""
        self.route.close()
        return self.fd


def write_sysctl(name: str, value: bytes) -> None:
    """Set /proc/sys/net/NAME in the calling thread's network namespace; OSError ENOENT without it."""
    fd = os.open(f"/proc/sys/net/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value)
    finally:
        os.close(fd)


def read_sysctl(name: str) -> str:
    """The value of /proc/sys/net/NAME in the calling thread's network namespace."""
    with open(f"/proc/sys/net/{name}") as file:
        return file.read().strip()


def make_namespace() -> Namespace:
    """Make a prepared namespace; the calling thread is left inside it."""
    unshare_network()
    for name, value in _SYSCTLS:
        with contextlib.suppress(FileNotFoundError):
            write_sysctl(name, value)
    route = RouteSocket()
    try:
        route.execute([bring_up(LOOPBACK_INDEX)])
        # Some kernels put tunnel devices into every new namespace.
        last = max(link.index for link in route.links())
        return Namespace(open_own_network(), route, last + 1)
    except BaseException:
        route.close()
        raise


def make_namespace_with_dns() -> Namespace:
    """A prepared namespace with the sockets of the embedded DNS server; the thread is left inside."""
    namespace = make_namespace()
    try:
        namespace.dns = open_dns_sockets_here()
    except BaseException:
        namespace.close()
        raise
    return namespace


@contextlib.contextmanager
def opened(fd: int) -> Iterator[Namespace]:
    """A namespace that somebody holds by a descriptor; works from any thread."""

    def enter() -> RouteSocket:
        enter_network(fd)
        return RouteSocket()

    route = in_own_thread(enter)
    try:
        yield Namespace(fd, route, max(link.index for link in route.links()) + 1)
    finally:
        route.close()


class NamespacePool:
    """Namespaces in stock, refilled by a thread when nobody is taking any, or when they run short."""

    def __init__(self, make: Callable[[], Namespace], size: int = POOL_SIZE) -> None:
        self._make = make
        self._size = size
        self._stock: deque[Namespace] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._taken = 0
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Start filling the pool; nothing happens when it is open."""
        if self._thread is not None:
            return
        self._thread = threading.Thread(target=self._refill, name="netns-pool", daemon=True)
        self._thread.start()

    def take(self) -> Namespace:
        """A prepared namespace, from stock or made on the spot (0.5 ms); the caller closes it."""
        with self._changed:
            self._taken += 1
            self._changed.notify()
            if self._stock:
                return self._stock.popleft()
        return in_own_thread(self._make)

    def close(self) -> None:
        """Stop the thread and let go of what is in stock."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
        while self._stock:
            self._stock.popleft().close()

    def _refill(self) -> None:
        while self._wait_for_need():
            try:
                namespace = self._make()
            except OSError:
                # Out of a resource: whoever takes one meets the error itself and reports it.
                with self._changed:
                    self._changed.wait_for(lambda: self._closed, _RETRY_S)
                continue
            with self._changed:
                self._stock.append(namespace)

    def _wait_for_need(self) -> bool:
        """Return True when one more is to be made, False when the pool is closed.

        Making one delays a start that goes on at the same moment, so it waits for a quiet moment.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._stock) < self._size)
            while not self._closed and len(self._stock) > self._size // 4:
                taken = self._taken
                self._changed.wait(_QUIET_S)
                if taken == self._taken:
                    break
            return not self._closed
