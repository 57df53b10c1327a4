"""A network of a test's own: the code under test runs as if its thread were a whole host.

    outside (192.0.2.2) ---- veth ---- host (192.0.2.1, 2001:db8::1) ---- the daemon's bridges

Threads inherit the network namespace of the thread that starts them, so everything that a test body
starts, event loop and workers included, lives in the new namespace and nothing else does.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import os
import socket
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

from seom.containers.config import Config, EndpointConfig, HostConfig
from seom.engine.network_records import Member
from seom.engine.networks import Networks
from seom.errors import NotFound
from seom.linux.netlink import add_address, bring_up, new_veth
from seom.linux.network_namespace import (
    in_own_thread,
    inside,
)
from seom.network.bridge import find_link
from seom.network.namespace import Namespace, make_namespace, write_sysctl
from seom.storage.database import Database

HOST_ADDRESS, OUTSIDE_ADDRESS = "192.0.2.1", "192.0.2.2"
HOST_ADDRESS_6, OUTSIDE_ADDRESS_6 = "2001:db8::1", "2001:db8::2"

Result = TypeVar("Result")


@dataclass
class Lab:
    """A host with an outside, a database and containers that exist as members only."""

    directory: Path
    outside: Namespace
    members: dict[str, Member] = field(default_factory=dict)
    events: list[tuple[str, str, str, dict[str, str]]] = field(default_factory=list)
    opened: list[Networks] = field(default_factory=list)
    pipes: list[int] = field(default_factory=list)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    async def networks(self, instance: str = "abc123") -> Networks:
        """A daemon's networks, open; called again it is the next daemon after a crash or restart."""
        db = Database(self.directory / f"{instance}.db")
        made = Networks(db, self.directory, instance, self.find, lambda id: None, self._record)
        self.opened.append(made)
        await made.open()
        return made

    def _record(self, kind: str, action: str, actor: str, attributes: dict[str, str]) -> None:
        self.events.append((kind, action, actor, attributes))

    def find(self, reference: str) -> Member:
        """The member with this id or name."""
        for member in self.members.values():
            if reference in (member.id, member.name):
                return member
        raise NotFound(f"No such container: {reference}")

    def member(
        self,
        name: str,
        mode: str = "bridge",
        endpoints: dict[str, EndpointConfig | None] | None = None,
        **host: object,
    ) -> Member:
        """A container's request, known under its name from now on."""
        id = os.urandom(32).hex()
        wishes = HostConfig(network_mode=mode, **host)  # type: ignore[arg-type]
        self.members[id] = Member(id, name, Config(), wishes, endpoints if endpoints is not None else {})
        return self.members[id]

    def started(self, member: Member) -> subprocess.Popen[bytes]:
        """Let a process live in a member's namespace, as a container's would; it ends with the lab."""
        fd = self.opened[-1].netns_fd(member.id)
        assert fd is not None
        read, write = os.pipe()
        process = inside(fd, lambda: subprocess.Popen(["cat"], stdin=read))
        os.close(read)
        self.pipes.append(write)
        self.processes.append(process)
        self.members[member.id] = dataclasses.replace(member, pid=process.pid)
        return process

    def close(self) -> None:
        """End the processes."""
        for pipe in self.pipes:
            os.close(pipe)
        for process in self.processes:
            process.wait()


def in_lab(test: Callable[[Lab], Awaitable[None]]) -> Callable[[], None]:
    """Run an async test in a network namespace of its own, given a Lab."""

    @functools.wraps(test)
    def run() -> None:
        def body() -> None:
            with tempfile.TemporaryDirectory(prefix="seom-lab-") as directory, _outside() as outside:
                asyncio.run(_run(test, Lab(Path(directory), outside)))

        in_own_thread(body)

    del run.__wrapped__
    return run


async def _run(test: Callable[[Lab], Awaitable[None]], lab: Lab) -> None:
    try:
        async with asyncio.timeout(60):
            await test(lab)
    finally:
        lab.close()
        for networks in lab.opened:
            with contextlib.suppress(Exception):
                await networks.close()


@contextlib.contextmanager
def _outside() -> Iterator[Namespace]:
    outside = in_own_thread(make_namespace)
    host = make_namespace()
    _allow_ipv6()
    inside(outside.fd, _allow_ipv6)
    try:
        host.route.execute([new_veth("out0", 0, outside.fd, "eth0", outside.next_index, "02:00:00:00:00:02")])
        link = find_link(host.route, "out0")
        assert link is not None
        for route, index, addresses in (
            (host.route, link.index, (HOST_ADDRESS, HOST_ADDRESS_6)),
            (outside.route, outside.next_index, (OUTSIDE_ADDRESS, OUTSIDE_ADDRESS_6)),
        ):
            route.execute([bring_up(index)])
            for address in map(ip_address, addresses):
                route.execute([add_address(index, address, 24 if address.version == 4 else 64)])
        yield outside
    finally:
        host.close()
        outside.close()


def _allow_ipv6() -> None:
    write_sysctl("ipv6/conf/default/disable_ipv6", b"0")
    write_sysctl("ipv6/conf/all/disable_ipv6", b"0")


def serve_once(fd: int | None, address: str, port: int, answer: bytes = b"hello") -> asyncio.Task[str]:
    """Accept one TCP connection in a namespace (None: here), answer, and return the client's address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def listen() -> socket.socket:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(16)
        return listener

    listener = listen() if fd is None else inside(fd, listen)

    def accept() -> str:
        with listener:
            listener.settimeout(20)
            connection, peer = listener.accept()
            with connection:
                connection.sendall(answer)
            return str(peer[0])

    return asyncio.create_task(asyncio.to_thread(accept))


async def fetch(fd: int | None, address: str, port: int, timeout_s: float = 5) -> bytes:
    """What a TCP server says, asked from a namespace (None: here); OSError when it cannot be reached."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def ask() -> bytes:
        with socket.socket(family, socket.SOCK_STREAM) as client:
            client.settimeout(timeout_s)
            client.connect((address, port))
            return client.recv(100)

    return await asyncio.to_thread(ask if fd is None else lambda: inside(fd, ask))
