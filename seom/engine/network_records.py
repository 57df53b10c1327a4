"""What the daemon knows of a network, of an endpoint and of a container's sandbox, and their rows."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

import msgspec

from seom.containers.config import Config, EndpointConfig, HostConfig
from seom.network.addresses import Address, AddressPool
from seom.network.bridge import Macvlan, Plug, bridge_alias, bridge_name
from seom.network.definition import (
    BRIDGE,
    OPTION_ICC,
    OPTION_MACVLAN_MODE,
    OPTION_MASQUERADE,
    OPTION_NAME,
    OPTION_PARENT,
    PREDEFINED,
    NetworkDefinition,
    address_pool,
)
from seom.network.dns_sockets import DnsSockets
from seom.network.firewall import FilteredNetwork, Forward
from seom.network.host import BridgeSettings
from seom.network.ports import PublishedPort, Reservation
from seom.network.relay import Relay
from seom.storage.database import Database

if TYPE_CHECKING:
    from seom.network.dns import DnsServer


@dataclass(frozen=True, slots=True)
class Member:
    """What networks must know of a container: its names, wishes, and whether it runs (pid, else 0).

    endpoints is the container's own dictionary, by network name or id: connect and disconnect change it.
    """

    id: str
    name: str
    config: Config
    host: HostConfig
    endpoints: dict[str, EndpointConfig | None]
    pid: int = 0


class Endpoint(msgspec.Struct):
    """A running container's place in one network; addresses are empty on host and none."""

    id: str
    network_id: str
    container_id: str
    container_name: str
    config: EndpointConfig
    interface: str = ""
    veth: str = ""
    mac: str = ""
    ipv4: str = ""
    ipv6: str = ""
    dns_names: list[str] = []
    verified: bool = True
    """False after a restart of the daemon until its container was found running."""

    @property
    def addresses(self) -> list[Address]:
        """The addresses it has."""
        return [ip_address(text) for text in (self.ipv4, self.ipv6) if text]

    def save(self, db: Database) -> None:
        """Store, or store again."""
        db.execute(
            "INSERT OR REPLACE INTO endpoint VALUES (?,?,?)",
            self.container_id,
            self.network_id,
            msgspec.json.encode(self),
        )

    def delete(self, db: Database) -> None:
        """Remove the row."""
        db.execute(
            "DELETE FROM endpoint WHERE container_id=? AND network_id=?", self.container_id, self.network_id
        )


class PortRecord(msgspec.Struct, frozen=True):
    """A published port as stored."""

    container_port: int
    protocol: str
    host_address: str
    host_port: int


class SandboxRecord(msgspec.Struct):
    """The stored part of a sandbox."""

    ports: list[PortRecord] = []
    dns_port: int = 0


@dataclass(slots=True)
class Network:
    """A network of this instance."""

    id: str
    name: str
    created_ns: int
    definition: NetworkDefinition
    instance: str
    pools: list[AddressPool] = field(default_factory=list)
    bridge_index: int = 0
    endpoints: dict[str, Endpoint] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.pools:
            self.pools = [address_pool(pool) for pool in self.definition.pools]

    @property
    def driver(self) -> str:
        return self.definition.driver

    @property
    def predefined(self) -> bool:
        return self.name in PREDEFINED

    @property
    def user_defined(self) -> bool:
        """Whether names are resolved and addresses may be chosen: everything but bridge, host, none."""
        return not self.predefined

    @property
    def bridge(self) -> str:
        """The name of its bridge in the kernel."""
        chosen = self.definition.options.get(OPTION_NAME, "")
        if chosen and not self.predefined:
            return chosen
        return bridge_name(self.instance, self.id, self.name == BRIDGE)

    @property
    def alias(self) -> str:
        return bridge_alias(self.instance, self.id)

    def pool(self, version: int) -> AddressPool | None:
        """The allocator of an IP version, or None."""
        return next((pool for pool in self.pools if pool.subnet.version == version), None)

    def gateway(self, version: int) -> Address | None:
        """The gateway of an IP version, or None."""
        pool = self.pool(version)
        return pool.gateway if pool else None

    @property
    def gateways(self) -> tuple[Address, ...]:
        """The gateways of all its subnets."""
        return tuple(pool.gateway for pool in self.pools if pool.gateway is not None)

    def bridge_settings(self) -> BridgeSettings:
        """What its bridge is to be."""
        gateways = ((pool.gateway, pool.subnet.prefixlen) for pool in self.pools if pool.gateway is not None)
        return BridgeSettings(self.bridge, self.alias, tuple(gateways), self.definition.mtu)

    def filtered(self) -> FilteredNetwork:
        """What the firewall needs."""
        return FilteredNetwork(
            bridge=self.bridge,
            subnets=tuple(pool.subnet for pool in self.pools),
            internal=self.definition.internal,
            icc=self.definition.switched(OPTION_ICC),
            masquerade=self.definition.switched(OPTION_MASQUERADE),
        )

    def save(self, db: Database) -> None:
        """Store, or store again."""
        db.execute(
            "INSERT INTO network VALUES (?,?,?,?) "
            "ON CONFLICT (id) DO UPDATE SET definition=excluded.definition",
            self.id,
            self.name,
            self.created_ns,
            msgspec.json.encode(self.definition),
        )


@dataclass(slots=True)
class Sandbox:
    """What one running container has of networks; the runtime needs netns_fd, hosts and resolv_conf.

    netns_fd is None when the container shares the host's network; it belongs to the sandbox, which
    keeps it open until release(). share_with is the container whose files are to be shared
    (`--network container:`), else empty.
    """

    container_id: str
    mode: str
    netns_fd: int | None = None
    share_with: str = ""
    hosts: str = ""
    resolv_conf: str = ""
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    reservation: Reservation = field(default_factory=Reservation)
    forwards: list[Forward] = field(default_factory=list)
    published: list[Forward] = field(default_factory=list)
    """Those of forwards that the firewall has been told."""
    dns_sockets: DnsSockets | None = None
    dns: DnsServer | None = None
    relays: list[Relay] = field(default_factory=list)

    def stop_serving(self) -> None:
        """Stop answering names and relaying; on the event loop's thread."""
        for relay in self.relays:
            relay.close()
        self.relays.clear()
        if self.dns is not None:
            self.dns.close()
        elif self.dns_sockets is not None:
            self.dns_sockets.close()
        self.dns = self.dns_sockets = None

    def close(self) -> None:
        """Give host ports back and let go of the namespace."""
        self.reservation.close()
        fd, self.netns_fd = self.netns_fd, None
        if fd is not None:
            os.close(fd)

    def record(self) -> SandboxRecord:
        """What is stored."""
        return SandboxRecord(
            [
                PortRecord(port.container_port, port.protocol, str(port.host_address), port.host_port)
                for port in self.reservation.ports
            ],
            self.dns_sockets.port if self.dns_sockets is not None else 0,
        )

    def save(self, db: Database) -> None:
        """Store, or store again."""
        db.execute(
            "INSERT OR REPLACE INTO sandbox VALUES (?,?)",
            self.container_id,
            msgspec.json.encode(self.record()),
        )


def delete_sandbox(db: Database, container_id: str) -> None:
    """Remove all rows of a container's sandbox."""
    with db.transaction():
        db.execute("DELETE FROM endpoint WHERE container_id=?", container_id)
        db.execute("DELETE FROM sandbox WHERE container_id=?", container_id)


def load_networks(db: Database, instance: str) -> list[Network]:
    """Every stored network, oldest first, with its stored endpoints, unverified."""
    definitions = msgspec.json.Decoder(NetworkDefinition)
    endpoints = msgspec.json.Decoder(Endpoint)
    networks = {
        row["id"]: Network(
            row["id"], row["name"], row["created_ns"], definitions.decode(row["definition"]), instance
        )
        for row in db.rows("SELECT * FROM network ORDER BY created_ns")
    }
    for row in db.rows("SELECT * FROM endpoint"):
        endpoint = endpoints.decode(row["document"])
        endpoint.verified = False
        networks[row["network_id"]].endpoints[endpoint.container_id] = endpoint
    return list(networks.values())


def load_sandbox_record(db: Database, container_id: str) -> SandboxRecord:
    """What is stored of a container's sandbox; an empty record when nothing is."""
    row = db.row("SELECT document FROM sandbox WHERE container_id=?", container_id)
    return msgspec.json.decode(row["document"], type=SandboxRecord) if row else SandboxRecord()


def published(record: SandboxRecord) -> list[PublishedPort]:
    """The stored ports."""
    return [
        PublishedPort(port.container_port, port.protocol, ip_address(port.host_address), port.host_port)
        for port in record.ports
    ]


def gateway_endpoint(endpoints: Iterable[Endpoint], networks: dict[str, Network]) -> Endpoint | None:
    """The endpoint that leads outside: the highest priority, then the first name of a network."""
    candidates = [
        endpoint
        for endpoint in endpoints
        if endpoint.addresses and not networks[endpoint.network_id].definition.internal
    ]
    return min(
        candidates,
        key=lambda endpoint: (-endpoint.config.gw_priority, networks[endpoint.network_id].name),
        default=None,
    )


def make_plug(network: Network, endpoint: Endpoint, is_gateway: bool, published: bool, index: int) -> Plug:
    """What the endpoint's interface is to look like, as index in the container's namespace."""
    definition = network.definition
    uplink: int | Macvlan = network.bridge_index
    if definition.driver == "macvlan":
        options = definition.options
        uplink = Macvlan(options[OPTION_PARENT], options.get(OPTION_MACVLAN_MODE, "bridge"))
    return Plug(
        uplink=uplink,
        interface=endpoint.interface,
        index=index,
        veth=endpoint.veth,
        mac=endpoint.mac,
        addresses=tuple(
            (address, pool.subnet.prefixlen)
            for address in endpoint.addresses
            if (pool := network.pool(address.version)) is not None
        ),
        gateways=network.gateways if is_gateway else (),
        mtu=definition.mtu,
        isolated=not definition.switched(OPTION_ICC),
        published=published,
    )


def forwards_of(ports: list[PublishedPort], endpoint: Endpoint) -> list[Forward]:
    """The firewall entries that lead published ports to an endpoint, of the families it has."""
    targets: dict[int, IPv4Address | IPv6Address] = {
        address.version: address for address in endpoint.addresses
    }
    return [
        Forward(
            port.host_address,
            port.host_port,
            port.protocol,
            targets[port.host_address.version],
            port.container_port,
        )
        for port in ports
        if port.host_address.version in targets
    ]


def overlapping(network: Network, others: list[Network]) -> Network | None:
    """Another network whose subnets overlap with this one's, or None."""
    mine = [ip_network(pool.subnet) for pool in network.pools]
    for other in others:
        if any(a.version == b.subnet.version and a.overlaps(b.subnet) for a in mine for b in other.pools):
            return other
    return None


def unverified_containers(networks: dict[str, Network]) -> set[str]:
    """Containers with stored endpoints that were not yet found running."""
    return {
        endpoint.container_id
        for network in networks.values()
        for endpoint in network.endpoints.values()
        if not endpoint.verified
    }


def endpoints_of(container_id: str, networks: dict[str, Network]) -> list[Endpoint]:
    """A container's endpoints in all networks."""
    return [
        network.endpoints[container_id] for network in networks.values() if container_id in network.endpoints
    ]


def stored_forwards(db: Database, networks: dict[str, Network]) -> list[Forward]:
    """The published ports of containers that were not yet found running."""
    forwards: list[Forward] = []
    for container_id in unverified_containers(networks):
        gateway = gateway_endpoint(endpoints_of(container_id, networks), networks)
        if gateway is not None:
            forwards += forwards_of(published(load_sandbox_record(db, container_id)), gateway)
    return forwards
