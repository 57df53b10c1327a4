"""Where a container's embedded DNS server listens: 127.0.0.11 in the container's own namespace.

Port 53 itself stays free: a container may run a DNS server of its own on 0.0.0.0:53, which a socket
bound to 127.0.0.11:53 would forbid. So the sockets have a port of the kernel's choice, and a NAT
rule inside the namespace leads queries to it, as Docker does with iptables.
"""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass

from seom.linux.network_namespace import inside
from seom.linux.nftables import Nftables

ADDRESS = "127.0.0.11"
_TABLE = "seom_dns"
_ATTEMPTS = 16
_BACKLOG = 64


@dataclass(slots=True)
class DnsSockets:
    """A UDP socket and a listening TCP socket on one port."""

    udp: socket.socket
    tcp: socket.socket

    @property
    def port(self) -> int:
        """The port of both."""
        port: int = self.udp.getsockname()[1]
        return port

    def close(self) -> None:
        """Close both, and let go of the namespace with them."""
        self.udp.close()
        self.tcp.close()


def open_dns_sockets(netns_fd: int, port: int = 0) -> DnsSockets:
    """Make the sockets in a namespace and lead 127.0.0.11:53 to them; see open_dns_sockets_here()."""
    return inside(netns_fd, lambda: open_dns_sockets_here(port))


def open_dns_sockets_here(port: int = 0) -> DnsSockets:
    """Make the sockets in the calling thread's namespace; blocks about 0.5 ms.

    port is the one that an earlier daemon's rules lead to, if there was one.
    """
    if port:
        with contextlib.suppress(OSError):
            return _bind(port)
    sockets = _bind_pair()
    try:
        rules = Nftables()
        # Closing waits 20 ms for the kernel to destroy what was deleted, so nothing is without need.
        rules.run((_REMOVE if port else "") + _redirect(sockets.port))
        rules.close()
    except BaseException:
        sockets.close()
        raise
    return sockets


def _bind_pair() -> DnsSockets:
    """Two sockets on the same port: the one that TCP got may be taken for UDP, so it is tried again."""
    for _ in range(_ATTEMPTS):
        try:
            return _bind(0)
        except OSError as error:
            failure = error
    raise failure


def _bind(port: int) -> DnsSockets:
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1 if port else 0)
        tcp.bind((ADDRESS, port))
        udp.bind((ADDRESS, tcp.getsockname()[1]))
        tcp.listen(_BACKLOG)
    except BaseException:
        tcp.close()
        udp.close()
        raise
    return DnsSockets(udp, tcp)


_REMOVE = f"add table ip {_TABLE}\ndelete table ip {_TABLE}\n"


def _redirect(port: int) -> str:
    rules = "\n".join(
        f"ip daddr {ADDRESS} {protocol} dport 53 dnat to {ADDRESS}:{port}" for protocol in ("udp", "tcp")
    )
    return f"table ip {_TABLE} {{ chain output {{ type nat hook output priority -100;\n{rules}\n}}\n}}"
