"""Networks as Docker's clients see them: NetworkSettings of a container, a network's inspect document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from seom.containers.config import EndpointConfig, IpamConfig
from seom.engine.network_records import Endpoint, Network, Sandbox
from seom.engine.timestamps import format_timestamp
from seom.network.definition import ConfigReference, Ipam
from seom.network.ports import PublishedPort


class HostPort(msgspec.Struct, rename="pascal"):
    """One published address of a port."""

    host_ip: str
    host_port: str


class EndpointSettings(msgspec.Struct, rename="pascal"):
    """A container's endpoint, in the container's inspect document."""

    ipam_config: IpamConfig | None = msgspec.field(default=None, name="IPAMConfig")
    links: list[str] | None = None
    aliases: list[str] | None = None
    driver_opts: dict[str, str] | None = None
    gw_priority: int = 0
    network_id: str = msgspec.field(default="", name="NetworkID")
    endpoint_id: str = msgspec.field(default="", name="EndpointID")
    gateway: str = ""
    ip_address: str = msgspec.field(default="", name="IPAddress")
    mac_address: str = ""
    ip_prefix_len: int = msgspec.field(default=0, name="IPPrefixLen")
    ipv6_gateway: str = msgspec.field(default="", name="IPv6Gateway")
    global_ipv6_address: str = msgspec.field(default="", name="GlobalIPv6Address")
    global_ipv6_prefix_len: int = msgspec.field(default=0, name="GlobalIPv6PrefixLen")
    dns_names: list[str] | None = msgspec.field(default=None, name="DNSNames")


class NetworkSettings(msgspec.Struct, rename="pascal"):
    """The member NetworkSettings of a container's inspect document."""

    bridge: str = ""
    sandbox_id: str = msgspec.field(default="", name="SandboxID")
    sandbox_key: str = ""
    ports: dict[str, list[HostPort] | None] = {}
    hairpin_mode: bool = False
    link_local_ipv6_address: str = msgspec.field(default="", name="LinkLocalIPv6Address")
    link_local_ipv6_prefix_len: int = msgspec.field(default=0, name="LinkLocalIPv6PrefixLen")
    secondary_ip_addresses: list[str] | None = msgspec.field(default=None, name="SecondaryIPAddresses")
    secondary_ipv6_addresses: list[str] | None = msgspec.field(default=None, name="SecondaryIPv6Addresses")
    endpoint_id: str = msgspec.field(default="", name="EndpointID")
    gateway: str = ""
    global_ipv6_address: str = msgspec.field(default="", name="GlobalIPv6Address")
    global_ipv6_prefix_len: int = msgspec.field(default=0, name="GlobalIPv6PrefixLen")
    ip_address: str = msgspec.field(default="", name="IPAddress")
    ip_prefix_len: int = msgspec.field(default=0, name="IPPrefixLen")
    ipv6_gateway: str = msgspec.field(default="", name="IPv6Gateway")
    mac_address: str = ""
    networks: dict[str, EndpointSettings] = {}


class PortSummary(msgspec.Struct, rename="pascal", omit_defaults=True):
    """One entry of Ports in the list of containers."""

    ip: str = msgspec.field(default="", name="IP")
    private_port: int = 0
    public_port: int = 0
    type: str = "tcp"


class AttachedContainer(msgspec.Struct, rename="pascal"):
    """One entry of Containers in a network's inspect document."""

    name: str
    endpoint_id: str = msgspec.field(name="EndpointID")
    mac_address: str = ""
    ipv4_address: str = msgspec.field(default="", name="IPv4Address")
    ipv6_address: str = msgspec.field(default="", name="IPv6Address")


class NetworkDocument(msgspec.Struct, rename="pascal"):
    """A network's inspect document."""

    name: str
    id: str
    created: str
    scope: str
    driver: str
    enable_ipv4: bool = msgspec.field(name="EnableIPv4")
    enable_ipv6: bool = msgspec.field(name="EnableIPv6")
    ipam: Ipam = msgspec.field(name="IPAM")
    internal: bool
    attachable: bool
    ingress: bool
    config_from: ConfigReference
    config_only: bool
    containers: dict[str, AttachedContainer]
    options: dict[str, str]
    labels: dict[str, str]


def network_document(network: Network, containers: bool = True) -> NetworkDocument:
    """The inspect document; lists leave containers out, as Docker does."""
    definition = network.definition
    return NetworkDocument(
        name=network.name,
        id=network.id,
        created=format_timestamp(network.created_ns),
        scope="local",
        driver=definition.driver,
        enable_ipv4=definition.enable_ipv4,
        enable_ipv6=definition.enable_ipv6,
        ipam=Ipam(definition.ipam_driver, definition.ipam_options, list(definition.pools) or None),
        internal=definition.internal,
        attachable=definition.attachable,
        ingress=False,
        config_from=ConfigReference(),
        config_only=False,
        containers={
            endpoint.container_id: _attached(network, endpoint)
            for endpoint in (network.endpoints.values() if containers else ())
        },
        options=definition.options,
        labels=definition.labels,
    )


def _attached(network: Network, endpoint: Endpoint) -> AttachedContainer:
    return AttachedContainer(
        endpoint.container_name,
        endpoint.id,
        endpoint.mac,
        _with_prefix(network, endpoint.ipv4, 4),
        _with_prefix(network, endpoint.ipv6, 6),
    )


def _with_prefix(network: Network, address: str, version: int) -> str:
    return f"{address}/{_prefix(network, version)}" if address else ""


def _prefix(network: Network, version: int) -> int:
    pool = network.pool(version)
    return pool.subnet.prefixlen if pool else 0


def endpoint_settings(network: Network, endpoint: Endpoint) -> EndpointSettings:
    """The endpoint of a running container."""
    settings = planned_settings(endpoint.config)
    settings.network_id = network.id
    settings.endpoint_id = endpoint.id
    settings.mac_address = endpoint.mac
    settings.dns_names = list(endpoint.dns_names) or None
    if endpoint.ipv4:
        settings.ip_address, settings.ip_prefix_len = endpoint.ipv4, _prefix(network, 4)
        settings.gateway = _gateway(network, 4)
    if endpoint.ipv6:
        settings.global_ipv6_address, settings.global_ipv6_prefix_len = endpoint.ipv6, _prefix(network, 6)
        settings.ipv6_gateway = _gateway(network, 6)
    return settings


def _gateway(network: Network, version: int) -> str:
    gateway = network.gateway(version)
    return str(gateway) if gateway and not network.definition.internal else ""


def planned_settings(config: EndpointConfig | None) -> EndpointSettings:
    """What is shown of a network that a container is to join when it starts."""
    config = config or EndpointConfig()
    return EndpointSettings(
        ipam_config=config.ipam_config,
        links=config.links,
        aliases=config.aliases,
        driver_opts=config.driver_opts,
        gw_priority=config.gw_priority,
        mac_address=config.mac_address,
    )


def running_settings(
    sandbox: Sandbox, networks: dict[str, Network], pid: int, exposed: Iterable[str]
) -> NetworkSettings:
    """NetworkSettings of a running container; networks are by id."""
    settings = NetworkSettings(
        sandbox_id=sandbox.container_id,
        sandbox_key=f"/proc/{pid}/ns/net" if pid else "",
        ports=ports_map(sandbox.reservation.ports, exposed if sandbox.mode != "host" else ()),
    )
    for name, endpoint in sandbox.endpoints.items():
        shown = endpoint_settings(networks[endpoint.network_id], endpoint)
        settings.networks[name] = shown
        if name == "bridge":
            for field in _DEFAULT_BRIDGE_FIELDS:
                setattr(settings, field, getattr(shown, field))
    return settings


# Docker repeats the default bridge's endpoint at the top level.
_DEFAULT_BRIDGE_FIELDS = (
    "endpoint_id",
    "gateway",
    "global_ipv6_address",
    "global_ipv6_prefix_len",
    "ip_address",
    "ip_prefix_len",
    "ipv6_gateway",
    "mac_address",
)


def ports_map(ports: Iterable[PublishedPort], exposed: Iterable[str]) -> dict[str, list[HostPort] | None]:
    """Docker's Ports: published addresses by container port, null for exposed ones only."""
    found: dict[str, list[HostPort] | None] = {}
    for port in ports:
        bindings = found.setdefault(f"{port.container_port}/{port.protocol}", [])
        assert bindings is not None
        bindings.append(HostPort(str(port.host_address), str(port.host_port)))
    for name in exposed:
        found.setdefault(name if "/" in name else f"{name}/tcp", None)
    return found


def port_summaries(ports: Iterable[PublishedPort], exposed: Iterable[str]) -> list[PortSummary]:
    """Ports of a container in the list of containers."""
    summaries = [
        PortSummary(str(port.host_address), port.container_port, port.host_port, port.protocol)
        for port in ports
    ]
    published = {(port.container_port, port.protocol) for port in ports}
    for name in exposed:
        number, _, protocol = name.partition("/")
        if number.isdecimal() and (int(number), protocol or "tcp") not in published:
            summaries.append(PortSummary(private_port=int(number), type=protocol or "tcp"))
    return summaries


def encode(document: Any) -> bytes:
    """JSON of any document above."""
    return msgspec.json.encode(document)
