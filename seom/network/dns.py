"""The embedded DNS server: names of containers from memory, everything else from the host's servers.

One server per container, because what a name means depends on who asks. Queries are forwarded
from the daemon's own network namespace, so resolvers on the host's loopback work as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable, Coroutine, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Protocol

from dnslib import AAAA, PTR, QTYPE, RCODE, RR, A, DNSError, DNSRecord

from seom.network.dns_sockets import DnsSockets

Address = IPv4Address | IPv6Address

TTL_S = 600
MAXIMUM_QUERIES = 256
_UPSTREAM_TIMEOUT_S = 4.0
_IDLE_TIMEOUT_S = 10.0
_DNS_PORT = 53


class Names(Protocol):
    """What one container can know by name."""

    def addresses(self, name: str) -> list[Address] | None:
        """The addresses of a name in lower case; None when it is no container's."""
        ...

    def name_of(self, address: Address) -> str | None:
        """The full name of an address; None when it is no container's."""
        ...

    def upstream(self) -> Sequence[str]:
        """The servers to ask for other names; empty when the container has no way outside."""
        ...


class DnsServer:
    """Answers on a pair of sockets, on the running event loop, until closed."""

    def __init__(self, sockets: DnsSockets, names: Names) -> None:
        self._sockets = sockets
        self._names = names
        self._tasks: set[asyncio.Task[None]] = set()
        loop = asyncio.get_running_loop()
        loop.add_reader(sockets.udp.fileno(), self._read_datagrams)
        loop.add_reader(sockets.tcp.fileno(), self._accept)

    def close(self) -> None:
        """Stop answering and close the sockets."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._sockets.udp.fileno())
        loop.remove_reader(self._sockets.tcp.fileno())
        self._sockets.close()
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if len(self._tasks) >= MAXIMUM_QUERIES:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _read_datagrams(self) -> None:
        for _ in range(64):
            try:
                query, client = self._sockets.udp.recvfrom(65535)
            except OSError:
                return
            answer = self.answer_locally(query)
            if answer is None:
                self._spawn(self._relay_datagram(query, client))
            elif answer:
                self._reply(answer, client)

    async def _relay_datagram(self, query: bytes, client: Any) -> None:
        self._reply(await self._forward(query, over_tcp=False), client)

    def _reply(self, answer: bytes, client: Any) -> None:
        with contextlib.suppress(OSError):
            self._sockets.udp.sendto(answer, client)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._sockets.tcp.accept()
            self._spawn(self._serve_connection(connection))

    async def _serve_connection(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            while True:
                async with asyncio.timeout(_IDLE_TIMEOUT_S):
                    query = await _read_message(reader)
                answer = self.answer_locally(query)
                if answer is None:
                    answer = await self._forward(query, over_tcp=True)
                writer.write(len(answer).to_bytes(2, "big") + answer)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def answer_locally(self, query: bytes) -> bytes | None:
        """The answer to a query about a container; None when others must be asked, empty for rubbish."""
        try:
            request = DNSRecord.parse(query)
            if request.header.qr or len(request.questions) != 1:
                return b""
            question = request.q
            name = str(question.qname).rstrip(".").lower()
        except (DNSError, UnicodeError, ValueError):
            return b""
        if question.qtype == QTYPE.PTR:
            return self._answer_reverse(request, name)
        addresses = self._names.addresses(name)
        if addresses is None:
            return None
        reply = request.reply(ra=1, aa=0)
        for address in random.sample(addresses, len(addresses)):
            if question.qtype == QTYPE.A and address.version == 4:
                reply.add_answer(RR(question.qname, QTYPE.A, rdata=A(str(address)), ttl=TTL_S))
            elif question.qtype == QTYPE.AAAA and address.version == 6:
                reply.add_answer(RR(question.qname, QTYPE.AAAA, rdata=AAAA(str(address)), ttl=TTL_S))
        return bytes(reply.pack())

    def _answer_reverse(self, request: DNSRecord, name: str) -> bytes | None:
        address = reverse_address(name)
        owner = self._names.name_of(address) if address is not None else None
        if owner is None:
            return None
        reply = request.reply(ra=1, aa=0)
        reply.add_answer(RR(request.q.qname, QTYPE.PTR, rdata=PTR(owner), ttl=TTL_S))
        return bytes(reply.pack())

    async def _forward(self, query: bytes, over_tcp: bool) -> bytes:
        """The answer of the first upstream server that gives one, else a server failure."""
        ask: Callable[[str, bytes], Coroutine[Any, Any, bytes]] = _ask_tcp if over_tcp else _ask_udp
        for server in self._names.upstream():
            try:
                async with asyncio.timeout(_UPSTREAM_TIMEOUT_S):
                    return await ask(server, query)
            except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
                continue
        reply = DNSRecord.parse(query).reply(ra=1, aa=0)
        reply.header.rcode = RCODE.SERVFAIL
        return bytes(reply.pack())


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    length = int.from_bytes(await reader.readexactly(2), "big")
    return await reader.readexactly(length)


async def _ask_tcp(server: str, query: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(server, _DNS_PORT)
    try:
        writer.write(len(query).to_bytes(2, "big") + query)
        await writer.drain()
        return await _read_message(reader)
    finally:
        writer.close()


async def _ask_udp(server: str, query: bytes) -> bytes:
    """Ask over UDP from a fresh, connected socket; answers to other questions are ignored."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    loop = asyncio.get_running_loop()
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as client:
        await loop.sock_connect(client, (server, _DNS_PORT))
        await loop.sock_sendall(client, query)
        while True:
            answer = await loop.sock_recv(client, 65535)
            if answer[:2] == query[:2]:
                return answer


def reverse_address(name: str) -> Address | None:
    """The address that a name below in-addr.arpa or ip6.arpa stands for, or None."""
    labels = name.split(".")
    with contextlib.suppress(ValueError):
        if name.endswith(".in-addr.arpa") and len(labels) == 6:
            return ip_address(".".join(reversed(labels[:4])))
        if name.endswith(".ip6.arpa") and len(labels) == 34:
            digits = "".join(reversed(labels[:32]))
            return ip_address(":".join(digits[start : start + 4] for start in range(0, 32, 4)))
    return None
