"""The bridge driver's half in the kernel: a bridge per network, a veth pair per endpoint.

    container's namespace            host
    eth0 172.17.0.2/16 ---- veth1a2b3c4 --- seom0 172.17.0.1/16 --- routing, NAT --- outside

The near end of a pair lives in the bridge; the far end is created directly in the container's
namespace, so nothing is ever moved or renamed. A pair is never deleted: it disappears with the
container's namespace, in the kernel's own time, and costs nobody a wait.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from ipaddress import IPv4Address, IPv6Address

from seom.linux.netlink import (
    Link,
    Message,
    RouteSocket,
    add_address,
    add_default_route,
    bring_up,
    bring_up_port,
    delete_link,
    new_bridge,
    new_macvlan,
    new_veth,
    set_alias,
)
from seom.linux.network_namespace import inside
from seom.network.namespace import Namespace, read_sysctl, write_sysctl

Address = IPv4Address | IPv6Address
Interface = tuple[Address, int]
"""An address and its prefix length."""


MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}


@dataclass(frozen=True, slots=True)
class Macvlan:
    """The other way to the network: an own address on the wire of a parent interface of the host."""

    parent: str
    mode: str = "bridge"


@dataclass(frozen=True, slots=True)
class Plug:
    """What one end in a container looks like; uplink is a bridge's index or a macvlan's parent."""

    uplink: int | Macvlan
    interface: str
    index: int
    veth: str
    mac: str
    addresses: tuple[Interface, ...]
    gateways: tuple[Address, ...]
    mtu: int = 0
    isolated: bool = False
    published: bool = False


def bridged_packets_are_filtered() -> bool:
    """Whether br_netfilter shows bridged packets to the firewall.

    Then what a container sends to its own published port is translated inside the bridge and must
    leave through the port it came from; else it is routed.
    """
    try:
        return read_sysctl("bridge/bridge-nf-call-iptables") != "0"
    except FileNotFoundError:
        return False


@cache
def kernel_has_ipv6() -> bool:
    """Whether the kernel was built and booted with IPv6."""
    return os.path.exists("/proc/sys/net/ipv6")


def bridge_name(instance: str, network_id: str, default: bool) -> str:
    """The bridge of a network, within the kernel's 15 characters and carrying the instance."""
    if default:
        return f"seom-{instance}" if instance else "seom0"
    return f"sm-{instance}{network_id[:5]}" if instance else f"sm-{network_id[:12]}"


def bridge_alias(instance: str, network_id: str) -> str:
    """The description by which an instance recognises its own bridges."""
    return f"seom:{instance}:{network_id}"


def new_veth_name() -> str:
    """A name that was never used before: veth and seven random hexadecimal digits."""
    return "veth" + os.urandom(4).hex()[:7]


def find_bridges(route: RouteSocket, instance: str) -> list[Link]:
    """The bridges of this instance that exist in the kernel."""
    prefix = bridge_alias(instance, "")
    return [link for link in route.links() if link.kind == "bridge" and link.alias.startswith(prefix)]


def find_link(route: RouteSocket, name: str) -> Link | None:
    """An interface by name, or None."""
    return next((link for link in route.links() if link.name == name), None)


def ensure_bridge(
    route: RouteSocket, name: str, alias: str, addresses: Sequence[Interface], mtu: int = 0
) -> int:
    """Create the bridge or complete an existing one; returns its index.

    Raises OSError EEXIST when the name belongs to something else.
    """
    mac = "02:42:" + hashlib.sha256(alias.encode()).digest()[:4].hex(":")
    with contextlib.suppress(FileExistsError):
        route.execute([new_bridge(name, mac, alias, mtu), set_alias(name, alias)])
    link = find_link(route, name)
    if link is None or link.alias != alias:
        raise OSError(errno.EEXIST, f"the interface name {name} is already used by something else", name)
    _set_bridge_sysctls(name, ipv6=any(address.version == 6 for address, _ in addresses))
    present = {
        (entry.address, entry.prefix_length) for entry in route.addresses() if entry.interface == link.index
    }
    missing = [entry for entry in addresses if entry not in present]
    messages = [add_address(link.index, address, length) for address, length in missing]
    route.execute([*messages, bring_up(link.index)])
    return link.index


def _set_bridge_sysctls(name: str, ipv6: bool) -> None:
    # route_localnet lets the host's own 127.0.0.1 reach a published port through NAT.
    write_sysctl(f"ipv4/conf/{name}/route_localnet", b"1")
    with contextlib.suppress(FileNotFoundError):
        write_sysctl(f"ipv6/conf/{name}/disable_ipv6", b"0" if ipv6 else b"1")
        write_sysctl(f"ipv6/conf/{name}/accept_ra", b"0")


def remove_bridge(route: RouteSocket, name: str, alias: str) -> None:
    """Delete a bridge when it is the one described by alias; nothing happens when it is gone."""
    link = find_link(route, name)
    if link is not None and link.alias == alias:
        with contextlib.suppress(OSError):
            route.execute([delete_link(link.index)])


def plug_in(host: RouteSocket, namespace: Namespace, plug: Plug, fresh: bool) -> None:
    """Connect a namespace to a network; afterwards packets flow. Raises OSError.

    The kernel numbers interfaces itself (veth(4) heeds a peer's index only when the other end has one too):
    in a fresh namespace one after another, as plug says; elsewhere the number is looked up.
    A half-made interface goes away with the namespace.
    """
    if isinstance(plug.uplink, Macvlan):
        host.execute([_macvlan(host, namespace, plug, plug.uplink)])
    else:
        hairpin = plug.published and bridged_packets_are_filtered()
        host.execute(
            [
                new_veth(
                    plug.veth, plug.uplink, namespace.fd, plug.interface, plug.index, plug.mac, plug.mtu
                ),
                bring_up_port(plug.veth, kernel_has_ipv6(), plug.isolated, hairpin),
            ]
        )
    link = None if fresh else find_link(namespace.route, plug.interface)
    if link is not None:
        plug = replace(plug, index=link.index)
    if any(address.version == 6 for address, _ in plug.addresses):
        inside(namespace.fd, lambda: allow_ipv6(plug.interface))
    namespace.route.execute(configure(plug))


def _macvlan(host: RouteSocket, namespace: Namespace, plug: Plug, uplink: Macvlan) -> Message:
    parent = find_link(host, uplink.parent)
    if parent is None:
        raise OSError(errno.ENODEV, f"the parent interface {uplink.parent} does not exist", uplink.parent)
    mode = MACVLAN_MODES[uplink.mode]
    return new_macvlan(plug.interface, parent.index, namespace.fd, plug.index, plug.mac, mode)


def configure(plug: Plug) -> list[Message]:
    """What is to be done inside the container's namespace."""
    return [
        *(add_address(plug.index, address, length) for address, length in plug.addresses),
        bring_up(plug.index),
        *(add_default_route(plug.index, gateway) for gateway in plug.gateways),
    ]


def allow_ipv6(interface: str) -> None:
    """Switch IPv6 on for one interface of the calling thread's namespace."""
    with contextlib.suppress(FileNotFoundError):
        write_sysctl(f"ipv6/conf/{interface}/disable_ipv6", b"0")
        write_sysctl(f"ipv6/conf/{interface}/accept_ra", b"0")
