"""Published ports: what is asked for, reserving host ports, and who holds one that is taken.

A host port is held by a bound socket for as long as it is published: programs on the host, and other
engines, then get EADDRINUSE instead of silently losing their traffic to the NAT rule, and a port
that such a program holds is refused in turn. No packet reaches an IPv4 socket; what reaches an IPv6 one
is passed on by a relay (see relay.py).
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from seom.network.addresses import Address

PROTOCOLS = ("tcp", "udp", "sctp")
_RANDOM_ATTEMPTS = 64
_RELAY_BACKLOG = 128
_LISTENING = "0A"


class PortTaken(Exception):
    """The host port is in use."""

    def __init__(self, address: Address, port: int, holder: str) -> None:
        super().__init__(address, port, holder)
        held = f" by {holder}; stop it or choose another port" if holder else ""
        self.text = f"Bind for {_written(address, port)} failed: port is already allocated{held}"

    def __str__(self) -> str:
        return self.text


class PortImpossible(Exception):
    """The host cannot have the address or port at all."""


@dataclass(frozen=True, slots=True)
class PortRequest:
    """One wish: a container's port, on which host addresses, and which host ports will do (0: any)."""

    container_port: int
    protocol: str
    host_addresses: tuple[Address, ...]
    first_host_port: int = 0
    last_host_port: int = 0


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """One host address and port that lead to a container's port."""

    container_port: int
    protocol: str
    host_address: Address
    host_port: int


@dataclass(slots=True)
class Reservation:
    """Published ports with the sockets that hold them."""

    ports: list[PublishedPort] = field(default_factory=list)
    sockets: dict[PublishedPort, socket.socket] = field(default_factory=dict)

    def close(self) -> None:
        """Give the ports back to the host."""
        for held in self.sockets.values():
            held.close()
        self.sockets.clear()


class PortRegistry:
    """The host ports that one instance's containers hold, by whom."""

    def __init__(self) -> None:
        self._holders: dict[tuple[str, Address, int], str] = {}

    def reserve(self, requests: Sequence[PortRequest], holder: str) -> Reservation:
        """Reserve everything asked for, or nothing; raises PortTaken. holder names the container."""
        made = Reservation()
        try:
            for request in requests:
                for published, held in self._reserve_one(request):
                    made.ports.append(published)
                    if held is not None:
                        made.sockets[published] = held
                    self._holders[_key(published)] = holder
        except BaseException:
            self.release(made)
            raise
        return made

    def retake(self, ports: Iterable[PublishedPort], holder: str) -> Reservation:
        """Hold again what a container has published already; a port lost meanwhile stays published."""
        made = Reservation(list(ports))
        for published in made.ports:
            self._holders[_key(published)] = holder
            with contextlib.suppress(OSError):
                held = bind_port(published.protocol, published.host_address, published.host_port)
                if held is not None:
                    made.sockets[published] = held
        return made

    def release(self, reservation: Reservation) -> None:
        """Give ports back."""
        reservation.close()
        for published in reservation.ports:
            self._holders.pop(_key(published), None)

    def _reserve_one(self, request: PortRequest) -> list[tuple[PublishedPort, socket.socket | None]]:
        """The first host port of the range that is free on every address asked for."""
        failure: PortTaken | None = None
        for port in _candidates(request):
            try:
                return self._reserve_port(request, port)
            except PortTaken as taken:
                failure = taken
        assert failure is not None
        raise failure

    def _reserve_port(
        self, request: PortRequest, port: int
    ) -> list[tuple[PublishedPort, socket.socket | None]]:
        held: list[tuple[PublishedPort, socket.socket | None]] = []
        try:
            for address in request.host_addresses:
                reserved = self._bind(request.protocol, address, port)
                port = reserved.getsockname()[1] if reserved is not None else port or _any_port()
                published = PublishedPort(request.container_port, request.protocol, address, port)
                held.append((published, reserved))
        except BaseException:
            for _, reserved in held:
                if reserved is not None:
                    reserved.close()
            raise
        return held

    def _bind(self, protocol: str, address: Address, port: int) -> socket.socket | None:
        owner = self._holder(protocol, address, port)
        if owner:
            raise PortTaken(address, port, f'container "{owner}"')
        try:
            return bind_port(protocol, address, port)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise PortImpossible(
                    f"Bind for {_written(address, port)} failed: cannot assign requested address: "
                    f"no interface of this host has {address}"
                ) from error
            if error.errno != errno.EADDRINUSE:
                raise
            raise PortTaken(address, port, find_listener(protocol, port)) from error

    def _holder(self, protocol: str, address: Address, port: int) -> str | None:
        for (other_protocol, other, other_port), holder in self._holders.items() if port else ():
            same = other_port == port and other_protocol == protocol and other.version == address.version
            if same and (other == address or other.is_unspecified or address.is_unspecified):
                return holder
        return None


def _written(address: Address, port: int) -> str:
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _key(published: PublishedPort) -> tuple[str, Address, int]:
    return published.protocol, published.host_address, published.host_port


def _any_port() -> int:
    """A port of the ephemeral range, for protocols that the host has no sockets of."""
    with socket.socket() as chooser:
        chooser.bind(("", 0))
        port: int = chooser.getsockname()[1]
    return port


def _candidates(request: PortRequest) -> Iterable[int]:
    if request.first_host_port:
        return range(request.first_host_port, request.last_host_port + 1)
    # Several attempts: the port the kernel picks for one address may be taken on the next.
    return [0] * _RANDOM_ATTEMPTS


def bind_port(protocol: str, address: Address, port: int) -> socket.socket | None:
    """A socket that holds a host port (0: the kernel picks one); None for sctp without kernel support.

    Raises OSError: EADDRINUSE when it is taken, EADDRNOTAVAIL when the address is not the host's.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    number = socket.IPPROTO_SCTP if protocol == "sctp" else 0
    try:
        held = socket.socket(family, kind | socket.SOCK_CLOEXEC, number)
    except OSError as error:
        if protocol == "sctp" and error.errno in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
            return None
        raise
    try:
        if family == socket.AF_INET6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if protocol == "tcp" and family == socket.AF_INET6:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind((str(address), port))
            held.listen(_RELAY_BACKLOG)
        elif protocol == "tcp" and port:
            _bind_stream(held, (str(address), port))
        else:
            held.bind((str(address), port))
    except BaseException:
        held.close()
        raise
    return held


def _bind_stream(held: socket.socket, address: tuple[str, int]) -> None:
    """Bind although connections of an earlier server linger in TIME_WAIT, and let nobody in after.

    SO_REUSEADDR admits to a port with lingering connections, listening makes the claim exclusive.
    Shut down again and without the option, the socket neither accepts nor shares. (A port that the
    kernel picked would be lost by the shutdown, and needs none of this.)
    """
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(address)
    held.listen(1)
    held.shutdown(socket.SHUT_RDWR)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)


def find_listener(protocol: str, port: int) -> str:
    """Who holds a port on this host, as `process 123 "nginx"`; empty when that cannot be seen."""
    inodes = {
        inode
        for table in (f"/proc/thread-self/net/{protocol}", f"/proc/thread-self/net/{protocol}6")
        for inode in _inodes_bound_to(table, port, listening=protocol == "tcp")
    }
    for pid in (entry for entry in os.listdir("/proc") if entry.isdecimal()) if inodes else ():
        with contextlib.suppress(OSError):
            for fd in os.scandir(f"/proc/{pid}/fd"):
                if os.readlink(fd.path) in inodes:
                    with open(f"/proc/{pid}/comm") as comm:
                        return f'process {pid} "{comm.read().strip()}"'
    return ""


def _inodes_bound_to(table: str, port: int, listening: bool) -> Iterator[str]:
    with contextlib.suppress(OSError), open(table) as lines:
        next(lines)
        for line in lines:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) == port and (not listening or fields[3] == _LISTENING):
                yield f"socket:[{fields[9]}]"


def parse_port_range(text: str) -> tuple[int, int]:
    """First and last port of `80` or `8000-8010`; (0, 0) for an empty text; raises ValueError."""
    if not text:
        return 0, 0
    first_text, dash, last_text = text.partition("-")
    first = int(first_text)
    last = int(last_text) if dash else first
    if not (0 <= first <= last <= 65535 and first_text.isdecimal()):
        raise ValueError(f"invalid port range {text!r}")
    return first, last


def parse_container_port(text: str) -> tuple[int, str]:
    """Port and protocol of `80`, `80/tcp` or `53/udp`; raises ValueError."""
    number, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in PROTOCOLS:
        raise ValueError(f"invalid proto: {protocol}")
    if not number.isdecimal() or not 0 < int(number) <= 65535:
        raise ValueError(f"invalid port specification: {text!r}")
    return int(number), protocol


def host_addresses(host_ip: str, ipv6: bool) -> tuple[Address, ...]:
    """The addresses a binding means: every one of both families when none is given."""
    if host_ip:
        return (ip_address(host_ip.strip("[]")),)
    return (IPv4Address(0), IPv6Address(0)) if ipv6 else (IPv4Address(0),)
