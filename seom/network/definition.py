"""A network as it is asked for, stored and shown; field names are the Engine API's."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import msgspec

from seom.network.addresses import AddressPool, Subnet, parse_address

BRIDGE, HOST, NONE = "bridge", "host", "none"
PREDEFINED = (BRIDGE, HOST, NONE)

OPTION_NAME = "com.docker.network.bridge.name"
OPTION_ICC = "com.docker.network.bridge.enable_icc"
OPTION_MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
OPTION_HOST_IP = "com.docker.network.bridge.host_binding_ipv4"
OPTION_PARENT, OPTION_MACVLAN_MODE = "parent", "macvlan_mode"
OPTION_MTU = "com.docker.network.driver.mtu"


class _Api(msgspec.Struct, rename="pascal"):
    """Common options: PascalCase on the wire."""


class IpamPool(_Api, omit_defaults=True):
    """One subnet: CIDR texts and addresses, empty where nothing is said."""

    subnet: str = ""
    ip_range: str = msgspec.field(default="", name="IPRange")
    gateway: str = ""
    auxiliary_addresses: dict[str, str] | None = None


class Ipam(_Api):
    driver: str = "default"
    options: dict[str, str] | None = None
    config: list[IpamPool] | None = None


class ConfigReference(_Api):
    network: str = ""


class CreateNetwork(_Api):
    """The body of POST /networks/create."""

    name: str = ""
    check_duplicate: bool | None = None
    driver: str = ""
    scope: str = ""
    enable_ipv4: bool | None = msgspec.field(default=None, name="EnableIPv4")
    enable_ipv6: bool | None = msgspec.field(default=None, name="EnableIPv6")
    ipam: Ipam | None = msgspec.field(default=None, name="IPAM")
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: ConfigReference | None = None
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class NetworkDefinition(_Api):
    """What is stored of a network, with every subnet and gateway decided."""

    driver: str
    enable_ipv4: bool = msgspec.field(default=True, name="EnableIPv4")
    enable_ipv6: bool = msgspec.field(default=False, name="EnableIPv6")
    ipam_driver: str = "default"
    ipam_options: dict[str, str] | None = None
    pools: list[IpamPool] = []
    internal: bool = False
    attachable: bool = False
    options: dict[str, str] = {}
    labels: dict[str, str] = {}

    def switched(self, option: str) -> bool:
        """A driver option that is on unless it says false."""
        return self.options.get(option, "true").lower() not in ("false", "0")

    @property
    def mtu(self) -> int:
        """The MTU asked for, or 0 for the kernel's default."""
        text = self.options.get(OPTION_MTU, "")
        return int(text) if text.isdecimal() else 0


def parse_subnet(text: str) -> Subnet:
    """A subnet in CIDR notation; raises ValueError in Docker's words."""
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        network = ip_network(text, strict=False)
    except ValueError as error:
        raise ValueError(f"invalid subnet {text}: invalid CIDR block notation") from error
    raise ValueError(f"invalid subnet {text}: it should be {network}")


def first_host(subnet: Subnet, ip_range: Subnet | None) -> str:
    """The address that becomes the gateway when none is asked for: the first one to be handed out."""
    first = int(subnet.network_address) + 1
    return str(ip_address(max(first, int(ip_range.network_address)) if ip_range is not None else first))


def decide_pool(pool: IpamPool) -> IpamPool:
    """The pool with its gateway decided; raises ValueError when its parts contradict each other."""
    subnet = parse_subnet(pool.subnet)
    ip_range = parse_subnet(pool.ip_range) if pool.ip_range else None
    if ip_range is not None and not _contains(subnet, ip_range):
        raise ValueError(
            f"invalid ip-range {pool.ip_range}: parent subnet {pool.subnet} doesn't contain ip-range"
        )
    for what, text in (("gateway", pool.gateway), *(pool.auxiliary_addresses or {}).items()):
        if text and parse_address(text) not in subnet:
            kind = "gateway" if what == "gateway" else f"auxiliary address {what}"
            raise ValueError(
                f"invalid {kind} {text}: parent subnet {pool.subnet} doesn't contain this address"
            )
    gateway = pool.gateway or first_host(subnet, ip_range)
    return IpamPool(str(subnet), pool.ip_range, gateway, pool.auxiliary_addresses)


def _contains(outer: Subnet, inner: Subnet) -> bool:
    if isinstance(outer, IPv4Network) and isinstance(inner, IPv4Network):
        return inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and isinstance(inner, IPv6Network) and inner.subnet_of(outer)


def address_pool(pool: IpamPool) -> AddressPool:
    """The allocator of a decided pool."""
    return AddressPool(
        ip_network(pool.subnet),
        parse_address(pool.gateway),
        ip_network(pool.ip_range) if pool.ip_range else None,
        [ip_address(text) for text in (pool.auxiliary_addresses or {}).values()],
    )
