"""Route netlink: links, addresses and routes by raw messages, several in one send.

A request is a list of messages; the kernel carries them out in order and acknowledges each, so one
send and one or two receives set up an interface. See rtnetlink(7) and linux/if_link.h.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import TracebackType

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLMSG_ERROR, NLMSG_DONE = 2, 3
RTMGRP_LINK = 1

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER = 1, 3, 4, 5, 10
IFLA_LINKINFO, IFLA_IFALIAS, IFLA_AF_SPEC = 18, 20, 26
IFLA_NET_NS_FD = 28
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
IFLA_BRPORT_MODE, IFLA_BRPORT_ISOLATED = 4, 33
IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE = 8, 1
IFLA_MACVLAN_MODE = 1
VETH_INFO_PEER = 1
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 4, 8
IFA_F_NODAD = 0x02
RTA_DST, RTA_OIF, RTA_GATEWAY = 1, 4, 5
RT_TABLE_MAIN, RT_TABLE_LOCAL, RTPROT_BOOT, RTN_UNICAST = 254, 255, 3, 1
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK = 0, 253

IFF_UP = 0x1
_NLA_F_NESTED = 0x8000
_SOL_NETLINK, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 270, 10, 11
_NLM_F_CAPPED, _NLM_F_ACK_TLVS = 0x100, 0x200
_NLMSGERR_ATTR_MSG = 1
_RECEIVE_BYTES = 1 << 18
_SO_RCVBUFFORCE = 33
_NOTIFICATION_BYTES = 1 << 22

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBi")
_ROUTE = struct.Struct("=BBBBBBBBI")
_U32 = struct.Struct("=I")

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Message:
    """One request: its type, flags beyond REQUEST and ACK, body, and what it does, for errors."""

    type: int
    body: bytes
    purpose: str
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface as the kernel reports it."""

    index: int
    name: str
    mac: str
    alias: str
    master: int
    kind: str
    up: bool


@dataclass(frozen=True, slots=True)
class Route:
    """A unicast route of the main table; the destination is None for the default route."""

    destination: Address | None
    prefix_length: int
    interface: int


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """An address of an interface."""

    interface: int
    address: Address
    prefix_length: int


def attribute(kind: int, payload: bytes) -> bytes:
    """Encode one attribute, padded to four bytes."""
    length = 4 + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + b"\0" * (-length % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """Decode a run of attributes; flags are removed from the keys."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _nested(kind: int, payload: bytes) -> bytes:
    return attribute(kind | _NLA_F_NESTED, payload)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _ifinfo(index: int = 0, flags: int = 0, change: int = 0, family: int = socket.AF_UNSPEC) -> bytes:
    return _IFINFO.pack(family, 0, index, flags, change)


def _family(address: Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def new_bridge(name: str, mac: str, alias: str, mtu: int = 0) -> Message:
    """Create a bridge that is up; EEXIST when the name is taken."""
    body = (
        _ifinfo(flags=IFF_UP, change=IFF_UP)
        + _text(IFLA_IFNAME, name)
        + attribute(IFLA_ADDRESS, _mac(mac))
        + (attribute(IFLA_MTU, _U32.pack(mtu)) if mtu else b"")
        + _nested(IFLA_LINKINFO, _text(IFLA_INFO_KIND, "bridge"))
    )
    return Message(RTM_NEWLINK, body, f"create bridge {name} ({alias})", NLM_F_CREATE | NLM_F_EXCL)


def new_veth(
    name: str, bridge: int, netns_fd: int, peer_name: str, peer_index: int, peer_mac: str, mtu: int = 0
) -> Message:
    """Create a veth pair: one end in the bridge, its peer (down) in the namespace of netns_fd.

    peer_index 0 lets the kernel choose. The near end stays down; see bring_up_port().
    """
    mtu_attribute = attribute(IFLA_MTU, _U32.pack(mtu)) if mtu else b""
    peer = (
        _ifinfo(index=peer_index)
        + _text(IFLA_IFNAME, peer_name)
        + attribute(IFLA_ADDRESS, _mac(peer_mac))
        + attribute(IFLA_NET_NS_FD, _U32.pack(netns_fd))
        + mtu_attribute
    )
    data = _nested(IFLA_INFO_DATA, _nested(VETH_INFO_PEER, peer))
    body = (
        _ifinfo()
        + _text(IFLA_IFNAME, name)
        + attribute(IFLA_MASTER, _U32.pack(bridge))
        + mtu_attribute
        + _nested(IFLA_LINKINFO, _text(IFLA_INFO_KIND, "veth") + data)
    )
    return Message(RTM_NEWLINK, body, f"create veth {name}", NLM_F_CREATE | NLM_F_EXCL)


def new_macvlan(name: str, parent: int, netns_fd: int, index: int, mac: str, mode: int) -> Message:
    """Create a macvlan of a parent interface directly in another namespace; mode is MACVLAN_MODE_*."""
    data = _nested(IFLA_INFO_DATA, attribute(IFLA_MACVLAN_MODE, _U32.pack(mode)))
    body = (
        _ifinfo(index=index)
        + _text(IFLA_IFNAME, name)
        + attribute(IFLA_ADDRESS, _mac(mac))
        + attribute(IFLA_LINK, _U32.pack(parent))
        + attribute(IFLA_NET_NS_FD, _U32.pack(netns_fd))
        + _nested(IFLA_LINKINFO, _text(IFLA_INFO_KIND, "macvlan") + data)
    )
    return Message(RTM_NEWLINK, body, f"create macvlan {name}", NLM_F_CREATE | NLM_F_EXCL)


def bring_up(index: int, name: str = "") -> Message:
    """Set an interface up, by index or (index 0) by name."""
    body = _ifinfo(index, IFF_UP, IFF_UP) + (_text(IFLA_IFNAME, name) if name else b"")
    return Message(RTM_SETLINK, body, f"bring up {name or index}")


def bring_up_port(name: str, ipv6: bool, isolated: bool = False, hairpin: bool = False) -> Message:
    """Set a bridge port up, without an IPv6 link-local address of its own.

    ipv6 says whether the kernel has IPv6 at all. Isolated ports exchange no frames with each other;
    a hairpin port may send a frame back where it came from.
    """
    generation = attribute(IFLA_INET6_ADDR_GEN_MODE, bytes([IN6_ADDR_GEN_MODE_NONE]))
    family = _nested(IFLA_AF_SPEC, _nested(socket.AF_INET6, generation)) if ipv6 else b""
    port = attribute(IFLA_BRPORT_ISOLATED, bytes([isolated])) + attribute(IFLA_BRPORT_MODE, bytes([hairpin]))
    body = (
        _ifinfo(0, IFF_UP, IFF_UP)
        + _text(IFLA_IFNAME, name)
        + _nested(IFLA_LINKINFO, _text(IFLA_INFO_SLAVE_KIND, "bridge") + _nested(IFLA_INFO_SLAVE_DATA, port))
        + family
    )
    return Message(RTM_NEWLINK, body, f"bring up {name}")


def set_alias(name: str, alias: str) -> Message:
    """Give an interface a description, as `ip link` shows it."""
    body = _ifinfo() + _text(IFLA_IFNAME, name) + attribute(IFLA_IFALIAS, alias.encode())
    return Message(RTM_SETLINK, body, f"describe {name}")


def delete_link(index: int) -> Message:
    """Delete an interface; synchronous and slow (20 ms): for bridges, never for veths."""
    return Message(RTM_DELLINK, _ifinfo(index), f"delete interface {index}")


def add_address(index: int, address: Address, prefix_length: int) -> Message:
    """Give an interface an address, usable at once (no duplicate address detection)."""
    packed = address.packed
    body = (
        _IFADDR.pack(_family(address), prefix_length, 0, RT_SCOPE_UNIVERSE, index)
        + attribute(IFA_LOCAL, packed)
        + attribute(IFA_ADDRESS, packed)
    )
    if address.version == 4:
        broadcast = int(address) | ((1 << (32 - prefix_length)) - 1)
        body += attribute(IFA_BROADCAST, broadcast.to_bytes(4, "big"))
    else:
        body += attribute(IFA_FLAGS, _U32.pack(IFA_F_NODAD))
    return Message(RTM_NEWADDR, body, f"add address {address}/{prefix_length}", NLM_F_CREATE | NLM_F_REPLACE)


def add_default_route(index: int, gateway: Address) -> Message:
    """Route everything of the gateway's family through it, replacing another default route."""
    return Message(
        RTM_NEWROUTE, _default_route(index, gateway), f"route through {gateway}", NLM_F_CREATE | NLM_F_REPLACE
    )


def _default_route(index: int, gateway: Address) -> bytes:
    header = _ROUTE.pack(
        _family(gateway), 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST, 0
    )
    return header + attribute(RTA_GATEWAY, gateway.packed) + attribute(RTA_OIF, _U32.pack(index))


class RouteSocket:
    """A NETLINK_ROUTE socket, bound for life to the network namespace of the thread that opens it.

    While it is open the namespace stays. Not for use by two threads at once.
    """

    def __init__(self, groups: int = 0) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        if groups:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _NOTIFICATION_BYTES)
        self._socket.bind((0, groups))
        self._sequence = 0

    def __enter__(self) -> RouteSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket and let go of its namespace."""
        self._socket.close()

    def fileno(self) -> int:
        """The socket's descriptor, to wait on."""
        return self._socket.fileno()

    def execute(self, messages: Sequence[Message]) -> None:
        """Send messages together and wait for all acknowledgements.

        Raises OSError for the first message refused; later ones of the batch were carried out too.
        """
        first = self._sequence + 1
        packets = []
        for message in messages:
            self._sequence += 1
            packets.append(self._pack(message, NLM_F_ACK))
        self._socket.send(b"".join(packets))
        failure: OSError | None = None
        waiting = len(messages)
        while waiting:
            for kind, flags, sequence, body in self._receive():
                if kind != NLMSG_ERROR or sequence < first:
                    continue
                waiting -= 1
                error = struct.unpack_from("=i", body)[0]
                if error and failure is None:
                    failure = _refusal(-error, messages[sequence - first].purpose, flags, body)
        if failure is not None:
            raise failure

    def dump(self, message: Message) -> Iterator[bytes]:
        """Send a dump request and yield the body of each answer."""
        self._sequence += 1
        self._socket.send(self._pack(message, NLM_F_DUMP))
        while True:
            for kind, flags, sequence, body in self._receive():
                if sequence != self._sequence:
                    continue
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    error = struct.unpack_from("=i", body)[0]
                    raise _refusal(-error, message.purpose, flags, body)
                yield body

    def notifications(self) -> Iterator[tuple[int, bytes]]:
        """Type and body of each waiting notification; BlockingIOError-free: ends when none is left."""
        while True:
            try:
                data = self._socket.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            for kind, _, _, body in _split(data):
                yield kind, body

    def links(self) -> list[Link]:
        """Every interface of the namespace."""
        return [parse_link(body) for body in self.dump(Message(RTM_GETLINK, _ifinfo(), "list interfaces"))]

    def addresses(self) -> list[InterfaceAddress]:
        """Every address of every interface."""
        request = Message(RTM_GETADDR, _IFADDR.pack(0, 0, 0, 0, 0), "list addresses")
        return [_parse_address(body) for body in self.dump(request)]

    def routes(self) -> list[Route]:
        """The unicast routes of all tables but the local one."""
        request = Message(RTM_GETROUTE, _ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0), "list routes")
        return [route for body in self.dump(request) if (route := _parse_route(body)) is not None]

    def _pack(self, message: Message, flags: int) -> bytes:
        length = _HEADER.size + len(message.body)
        flags |= NLM_F_REQUEST | message.flags
        return _HEADER.pack(length, message.type, flags, self._sequence, 0) + message.body

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        return _split(self._socket.recv(_RECEIVE_BYTES))


def _split(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        yield kind, flags, sequence, data[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3


def _refusal(code: int, purpose: str, flags: int, body: bytes) -> OSError:
    detail = ""
    if flags & _NLM_F_ACK_TLVS and flags & _NLM_F_CAPPED:
        reason = attributes(body[4 + _HEADER.size :]).get(_NLMSGERR_ATTR_MSG, b"")
        detail = reason.rstrip(b"\0").decode(errors="replace")
    text = f"cannot {purpose}: {os.strerror(code)}" + (f" ({detail})" if detail else "")
    return OSError(code, text)


def parse_link(body: bytes) -> Link:
    """Decode the body of an RTM_NEWLINK or RTM_DELLINK message."""
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    found = attributes(body[_IFINFO.size :])
    info = attributes(found.get(IFLA_LINKINFO, b""))
    master = found.get(IFLA_MASTER)
    return Link(
        index=index,
        name=_string(found.get(IFLA_IFNAME, b"")),
        mac=found.get(IFLA_ADDRESS, b"").hex(":"),
        alias=_string(found.get(IFLA_IFALIAS, b"")),
        master=_U32.unpack(master)[0] if master else 0,
        kind=_string(info.get(IFLA_INFO_KIND, b"")),
        up=bool(flags & IFF_UP),
    )


def _string(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def _parse_address(body: bytes) -> InterfaceAddress:
    _, prefix_length, _, _, index = _IFADDR.unpack_from(body)
    found = attributes(body[_IFADDR.size :])
    return InterfaceAddress(index, ip_address(found.get(IFA_LOCAL) or found[IFA_ADDRESS]), prefix_length)


def _parse_route(body: bytes) -> Route | None:
    _, length, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(body)
    if kind != RTN_UNICAST or table == RT_TABLE_LOCAL:
        return None
    found = attributes(body[_ROUTE.size :])
    destination = ip_address(found[RTA_DST]) if RTA_DST in found else None
    interface = _U32.unpack(found[RTA_OIF])[0] if RTA_OIF in found else 0
    return Route(destination, length, interface)
