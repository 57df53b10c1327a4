"""Choosing a subnet that nothing else on this machine uses.

Docker's pools first (172.17-31.0.0/16, then 192.168.0.0/20 pieces), then pieces of 10.128.0.0/9.
The routes and addresses of the host tell what is in use: they include the bridges of Docker and of
other Seom instances. Two instances that choose at the same time are kept apart by a lock file.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network, IPv6Network, ip_network

from seom.linux.netlink import RouteSocket
from seom.network.addresses import Subnet

LOCK_PATH = "/run/lock/seom-subnets"


class SubnetsExhausted(Exception):
    """Every pool overlaps with something in use."""


@contextmanager
def choosing() -> Iterator[None]:
    """Hold the machine-wide lock from looking at the host's routes until the bridge has its address."""
    os.makedirs(os.path.dirname(LOCK_PATH), exist_ok=True)
    fd = os.open(LOCK_PATH, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def pools() -> Iterator[IPv4Network]:
    """Candidate subnets in order of preference."""
    for second in range(17, 32):
        yield IPv4Network(f"172.{second}.0.0/16")
    yield from IPv4Network("192.168.0.0/16").subnets(new_prefix=20)
    yield from IPv4Network("10.128.0.0/9").subnets(new_prefix=20)


def subnets_in_use(route: RouteSocket, but: Collection[int] = ()) -> list[Subnet]:
    """Subnets that the host routes or has addresses in, except through the interfaces in but.

    Default routes do not count.
    """
    found: set[Subnet] = set()
    for entry in route.routes():
        if entry.destination is not None and entry.prefix_length and entry.interface not in but:
            found.add(ip_network((entry.destination, entry.prefix_length), strict=False))
    for address in route.addresses():
        if address.interface not in but:
            found.add(ip_network((address.address, address.prefix_length), strict=False))
    return list(found)


def choose_ipv4(in_use: Iterable[Subnet]) -> IPv4Network:
    """The first pool that overlaps with nothing in use; raises SubnetsExhausted."""
    taken = [subnet for subnet in in_use if isinstance(subnet, IPv4Network)]
    for pool in pools():
        if not any(pool.overlaps(subnet) for subnet in taken):
            return pool
    raise SubnetsExhausted(
        "all predefined address pools have been fully subnetted; remove networks that are no longer used "
        "(network prune), or choose one with --subnet"
    )


def choose_ipv6(network_id: str, in_use: Iterable[Subnet]) -> IPv6Network:
    """A /64 of the unique local range (RFC 4193), derived from the network's id."""
    taken = [subnet for subnet in in_use if isinstance(subnet, IPv6Network)]
    for attempt in range(1000):
        digest = hashlib.sha256(f"{network_id}/{attempt}".encode()).digest()
        subnet = IPv6Network((b"\xfd" + digest[:7] + b"\0" * 8, 64))
        if not any(subnet.overlaps(other) for other in taken):
            return subnet
    raise SubnetsExhausted("no free unique local IPv6 subnet was found; choose one with --subnet")
