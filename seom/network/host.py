"""The host's side of networking, for one instance: bridges, the nftables table, forwarding.

Everything here blocks (0.1 to 30 ms) and may be called from several threads.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from seom.linux.conntrack import forget_flows
from seom.linux.netlink import RouteSocket, add_default_route, delete_link
from seom.linux.nft_elements import NftElements
from seom.linux.nftables import Nftables
from seom.network import firewall, subnets
from seom.network.addresses import Address, Subnet
from seom.network.bridge import (
    Interface,
    Plug,
    ensure_bridge,
    find_bridges,
    find_link,
    plug_in,
    remove_bridge,
)
from seom.network.dns_sockets import DnsSockets
from seom.network.firewall import FilteredNetwork, Forward
from seom.network.namespace import (
    NamespacePool,
    make_namespace,
    make_namespace_with_dns,
    opened,
    read_sysctl,
    write_sysctl,
)

_DNS_POOL_SIZE = 4
FORWARDING_V4 = "ipv4/ip_forward"
FORWARDING_V6 = "ipv6/conf/all/forwarding"


MakePlug = Callable[[int], Plug]
"""Makes the plug once the interface's index inside the namespace is known."""


@dataclass(frozen=True, slots=True)
class BridgeSettings:
    """A network's bridge: name, alias, the gateways it holds, and its MTU (0: the kernel's default)."""

    name: str
    alias: str
    gateways: tuple[Interface, ...]
    mtu: int = 0


class HostNetwork:
    """One instance's share of the host's network namespace."""

    def __init__(self, instance: str) -> None:
        self.instance = instance
        self.pool = NamespacePool(make_namespace)
        self._dns_pool = NamespacePool(make_namespace_with_dns, _DNS_POOL_SIZE)
        self.table = firewall.table_name(instance)
        self._changing = threading.Lock()
        self._rules: tuple[Sequence[FilteredNetwork], Callable[[], Iterable[Forward]]] = ((), tuple)

    @cached_property
    def _nftables(self) -> Nftables:
        return Nftables()

    @cached_property
    def _elements(self) -> NftElements:
        return NftElements(self.table)

    def close(self) -> None:
        """Let go of prepared namespaces; bridges and rules stay."""
        self.pool.close()
        self._dns_pool.close()

    def ensure_bridge(self, settings: BridgeSettings) -> int:
        """Create or complete a bridge; returns its index."""
        with RouteSocket() as route:
            return ensure_bridge(route, settings.name, settings.alias, settings.gateways, settings.mtu)

    def ensure_chosen_bridge(self, choose: Callable[[list[Subnet]], BridgeSettings]) -> int:
        """Create a bridge whose subnets are chosen in view of those in use on this machine.

        choose gets the subnets in use, without this bridge's own; the lock that keeps other
        instances from choosing the same is held until the bridge has its addresses.
        """
        with subnets.choosing(), RouteSocket() as route:
            settings = choose(subnets.subnets_in_use(route))
            return ensure_bridge(route, settings.name, settings.alias, settings.gateways, settings.mtu)

    def subnets_in_use_by_others(self) -> list[Subnet]:
        """Subnets routed on this host through anything but this instance's bridges."""
        with RouteSocket() as route:
            own = {link.index for link in find_bridges(route, self.instance)}
            return subnets.subnets_in_use(route, but=own)

    def remove_bridge(self, name: str, alias: str) -> None:
        """Delete a bridge of this instance."""
        with RouteSocket() as route:
            remove_bridge(route, name, alias)

    def remove_stray_bridges(self, known_aliases: Iterable[str]) -> None:
        """Delete bridges of this instance that belong to no known network."""
        known = set(known_aliases)
        with RouteSocket() as route:
            for link in find_bridges(route, self.instance):
                if link.alias not in known:
                    remove_bridge(route, link.name, link.alias)

    def remove_stray_ports(self, known: Collection[str]) -> set[str]:
        """Delete veths in this instance's bridges that are not known; returns those that are there."""
        with RouteSocket() as route:
            bridges = {link.index for link in find_bridges(route, self.instance)}
            ports = [link for link in route.links() if link.kind == "veth" and link.master in bridges]
            for port in ports:
                if port.name not in known:
                    with contextlib.suppress(OSError):
                        route.execute([delete_link(port.index)])
        return {port.name for port in ports} & set(known)

    def new_sandbox(self, plugs: Sequence[MakePlug], with_dns: bool) -> tuple[int, DnsSockets | None]:
        """A namespace connected to networks, as a descriptor, and its DNS sockets; the caller owns both.

        Raises OSError; then nothing is left.
        """
        if with_dns:
            self._dns_pool.open()
        namespace = (self._dns_pool if with_dns else self.pool).take()
        try:
            if plugs:
                with RouteSocket() as route:
                    for offset, plug in enumerate(plugs):
                        plug_in(route, namespace, plug(namespace.next_index + offset), fresh=True)
        except BaseException:
            namespace.close()
            raise
        return namespace.detach(), namespace.dns

    def add_plug(self, netns_fd: int, plug: MakePlug) -> None:
        """Connect a running container's namespace to one more network."""
        with opened(netns_fd) as namespace, RouteSocket() as route:
            plug_in(route, namespace, plug(namespace.next_index), fresh=False)

    def unplug(self, netns_fd: int, interface: str) -> None:
        """Remove an interface of a running container, its default routes with it; synchronous, 20 ms."""
        with opened(netns_fd) as namespace:
            link = find_link(namespace.route, interface)
            if link is not None:
                namespace.route.execute([delete_link(link.index)])

    def set_default_routes(self, netns_fd: int, interface: str, gateways: Sequence[Address]) -> None:
        """Lead a running container's way outside through one of its interfaces."""
        with opened(netns_fd) as namespace:
            link = find_link(namespace.route, interface)
            if link is not None:
                namespace.route.execute([add_default_route(link.index, gateway) for gateway in gateways])

    def replace_rules(
        self, networks: Sequence[FilteredNetwork], forwards: Callable[[], Iterable[Forward]]
    ) -> None:
        """Make the firewall exactly this; forwards is asked when no port can come or go meanwhile."""
        with self._changing:
            self._rules = (networks, forwards)
            self._write_rules()

    def _write_rules(self) -> None:
        networks, forwards = self._rules
        self._nftables.run(firewall.replace_table(self.table, networks, forwards()))

    def rules_are_there(self) -> bool:
        """Whether the firewall's table exists."""
        with self._changing:
            return f"table inet {self.table}\n" in self._nftables.run("list tables inet")

    def publish(self, forwards: Sequence[Forward]) -> None:
        """Open published ports, all or none."""
        if forwards:
            with self._changing:
                try:
                    self._elements.add([firewall.element_of(forward) for forward in forwards])
                except FileNotFoundError:
                    # Somebody has just flushed the ruleset; what is written anew has these ports too.
                    self._write_rules()
            _forget_datagram_flows(forwards)

    def withdraw(self, forwards: Sequence[Forward]) -> None:
        """Close published ports; those already closed are no error."""
        if not forwards:
            return
        with self._changing:
            try:
                self._elements.delete([firewall.element_of(forward) for forward in forwards])
            except FileNotFoundError:
                for forward in forwards:
                    with contextlib.suppress(FileNotFoundError):
                        self._elements.delete([firewall.element_of(forward)])
        _forget_datagram_flows(forwards)

    def move(self, before: Sequence[Forward], after: Sequence[Forward]) -> None:
        """Replace published ports of a container by others."""
        if list(before) != list(after):
            self.withdraw(before)
            self.publish(after)

    def enable_forwarding(self, ipv6: bool) -> dict[str, str]:
        """Switch forwarding on; returns the settings that had to be changed, with their old values."""
        changed = _change({FORWARDING_V4: ("0", "1")})
        if ipv6 and "0" in _values([FORWARDING_V6]).values():
            # A router ignores router advertisements, and with them its own way outside, unless told not to.
            interfaces = os.listdir("/proc/sys/net/ipv6/conf")
            changed |= _change({f"ipv6/conf/{name}/accept_ra": ("1", "2") for name in interfaces})
            changed |= _change({FORWARDING_V6: ("0", "1")})
        return changed

    def reset(self, settings: dict[str, str]) -> None:
        """Remove every bridge and rule of this instance and put host settings back.

        Settings stay when other instances have bridges here that need them.
        """
        self._nftables.run(firewall.remove_table(self.table))
        with RouteSocket() as route:
            for link in find_bridges(route, self.instance):
                remove_bridge(route, link.name, link.alias)
            others = [link for link in route.links() if link.alias.startswith("seom:")]
        if not others:
            for name, value in settings.items():
                with contextlib.suppress(FileNotFoundError):
                    write_sysctl(name, value.encode())


def _forget_datagram_flows(forwards: Iterable[Forward]) -> None:
    """Let datagrams of flows that began under other rules follow the present ones."""
    for forward in forwards:
        if forward.protocol == "udp":
            family = socket.AF_INET if forward.host_address.version == 4 else socket.AF_INET6
            with contextlib.suppress(OSError):
                forget_flows(family, socket.IPPROTO_UDP, forward.host_port)


def _values(names: Iterable[str]) -> dict[str, str]:
    """The values of those settings that this kernel has."""
    found = {}
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            found[name] = read_sysctl(name)
    return found


def _change(wanted: dict[str, tuple[str, str]]) -> dict[str, str]:
    """Change settings that have the first of two values to the second; returns the old values."""
    old = {name: value for name, value in _values(wanted).items() if value == wanted[name][0]}
    for name in old:
        write_sysctl(name, wanted[name][1].encode())
    return old
