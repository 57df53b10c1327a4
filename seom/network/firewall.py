"""Seom's nftables table: NAT, published ports and isolation, for all networks of an instance.

The table is this instance's alone; no rule of anybody else is read or touched, and no chain of
Seom ever drops a packet that neither comes from nor goes to one of its bridges.

    prerouting, output  -> published: destination NAT from two maps, by address and port or by port
    postrouting         -> masquerade what leaves a network, what comes from 127.0.0.0/8, and what
                           returns to the network it came from through a published port
    forward             -> between networks only through published ports; internal ones not at all

Networks come and go rarely: each change replaces the whole table in one transaction, which no
packet can see half done. Ports come and go with containers: one element added to or deleted from
a map. Both directions of a connection keep the client's address unless masquerading is needed to
lead the answer back.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from seom.linux.nft_elements import MapElement, concatenate
from seom.network.addresses import Address, Subnet

_PROTOCOL_NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132}


@dataclass(frozen=True, slots=True)
class FilteredNetwork:
    """What the rules need to know of a bridge network."""

    bridge: str
    subnets: tuple[Subnet, ...]
    internal: bool = False
    icc: bool = True
    masquerade: bool = True


@dataclass(frozen=True, slots=True)
class Forward:
    """A published port: host address (unspecified means every one), port, and where it leads."""

    host_address: Address
    host_port: int
    protocol: str
    container_address: Address
    container_port: int


def table_name(instance: str) -> str:
    """The instance's table, in the family inet."""
    return f"seom-{instance}" if instance else "seom"


def replace_table(table: str, networks: Sequence[FilteredNetwork], forwards: Iterable[Forward]) -> str:
    """Commands that make the table exactly this, atomically."""
    return "\n".join(
        [
            *_absent(table),
            f"table inet {table} {{",
            *_sets(networks, list(forwards)),
            *_PREROUTING_AND_OUTPUT,
            "chain postrouting { type nat hook postrouting priority srcnat; policy accept;",
            *_masquerade(networks),
            "}",
            *_FORWARD,
            "}",
        ]
    )


def remove_table(table: str) -> str:
    """Commands that leave nothing of the table, whether it exists or not."""
    return "\n".join(_absent(table))


def element_of(forward: Forward) -> MapElement:
    """The element that publishes a port."""
    port = (bytes([_PROTOCOL_NUMBERS[forward.protocol]]), struct.pack(">H", forward.host_port))
    address = () if forward.host_address.is_unspecified else (forward.host_address.packed,)
    return MapElement(
        _map_of(forward),
        concatenate(*address, *port),
        concatenate(forward.container_address.packed, struct.pack(">H", forward.container_port)),
    )


def _absent(table: str) -> list[str]:
    # Deleting a table that does not exist is an error; adding one that does is not.
    return [f"add table inet {table}", f"delete table inet {table}"]


def _map_of(forward: Forward) -> str:
    kind = "any" if forward.host_address.is_unspecified else "host"
    return f"{kind}{forward.host_address.version}"


def _key(forward: Forward) -> str:
    port = f"{forward.protocol} . {forward.host_port}"
    return port if forward.host_address.is_unspecified else f"{forward.host_address} . {port}"


def _value(forward: Forward) -> str:
    return f"{forward.container_address} . {forward.container_port}"


def _sets(networks: Sequence[FilteredNetwork], forwards: list[Forward]) -> list[str]:
    return [
        _set("bridges", "ifname", (f'"{network.bridge}"' for network in networks)),
        _set("internal", "ifname", (f'"{network.bridge}"' for network in networks if network.internal)),
        _set(
            "icc",
            "ifname . ifname",
            (f'"{network.bridge}" . "{network.bridge}"' for network in networks if network.icc),
        ),
        *(_map(name, forwards) for name in ("any4", "host4", "any6", "host6")),
    ]


def _set(name: str, kind: str, elements: Iterable[str]) -> str:
    listed = ", ".join(elements)
    return f"set {name} {{ type {kind};" + (f" elements = {{ {listed} }};" if listed else "") + " }"


def _map(name: str, forwards: list[Forward]) -> str:
    address = "ipv4_addr" if name.endswith("4") else "ipv6_addr"
    key = "inet_proto . inet_service" if name.startswith("any") else f"{address} . inet_proto . inet_service"
    listed = ", ".join(f"{_key(entry)} : {_value(entry)}" for entry in forwards if _map_of(entry) == name)
    elements = f" elements = {{ {listed} }};" if listed else ""
    return f"map {name} {{ type {key} : {address} . inet_service;{elements} }}"


# A packet for 127.0.0.0/8 that arrives on a wire is either forged or for a port published on the
# loopback address only: it gets no destination NAT, and from a container it is dropped at once,
# because route_localnet would otherwise let containers reach services bound to the host's loopback.
_PREROUTING_AND_OUTPUT = (
    "chain raw { type filter hook prerouting priority raw; policy accept;",
    "ip daddr 127.0.0.0/8 iifname @bridges drop",
    "}",
    "chain published {",
    "dnat ip to ip daddr . meta l4proto . th dport map @host4",
    "dnat ip to meta l4proto . th dport map @any4",
    "dnat ip6 to ip6 daddr . meta l4proto . th dport map @host6",
    "dnat ip6 to meta l4proto . th dport map @any6",
    "}",
    "chain prerouting { type nat hook prerouting priority dstnat; policy accept;",
    "ip daddr 127.0.0.0/8 return",
    "fib daddr type local goto published",
    "}",
    "chain output { type nat hook output priority -100; policy accept;",
    "ip6 daddr ::1 return",
    "fib daddr type local goto published",
    "}",
)

_FORWARD = (
    "chain forward { type filter hook forward priority filter; policy accept;",
    "ct state established,related accept",
    "iifname . oifname @icc accept",
    "iifname @internal drop",
    "oifname @internal drop",
    "oifname @bridges ct status dnat accept",
    "oifname @bridges drop",
    "}",
)


def _masquerade(networks: Sequence[FilteredNetwork]) -> list[str]:
    rules = ["oifname @bridges ip saddr 127.0.0.0/8 masquerade"]
    for network in networks:
        for subnet in network.subnets:
            source = f"{'ip' if subnet.version == 4 else 'ip6'} saddr {subnet}"
            rules.append(f'oifname "{network.bridge}" ct status dnat {source} masquerade')
            if network.masquerade and not network.internal:
                rules.append(f'oifname != "{network.bridge}" {source} masquerade')
    return rules
