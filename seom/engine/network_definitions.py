"""From a request to a network's definition: drivers, options, subnets."""

from __future__ import annotations

import re
from collections.abc import Iterable

from seom.errors import Forbidden, InvalidParameter, NotFound, NotSupported, Unavailable
from seom.network.addresses import Subnet
from seom.network.bridge import MACVLAN_MODES
from seom.network.definition import (
    BRIDGE,
    HOST,
    NONE,
    OPTION_HOST_IP,
    OPTION_ICC,
    OPTION_MACVLAN_MODE,
    OPTION_MASQUERADE,
    OPTION_MTU,
    OPTION_NAME,
    OPTION_PARENT,
    CreateNetwork,
    IpamPool,
    NetworkDefinition,
    decide_pool,
)
from seom.network.subnets import SubnetsExhausted, choose_ipv4, choose_ipv6

DRIVERS = ("bridge", "macvlan")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_INTERFACE = re.compile(r"[^\s/:]{1,15}")


def predefined_networks() -> list[tuple[str, NetworkDefinition]]:
    """Name and definition of the networks that always exist; bridge's subnet is chosen later."""
    options = {
        "com.docker.network.bridge.default_bridge": "true",
        OPTION_ICC: "true",
        OPTION_MASQUERADE: "true",
        OPTION_HOST_IP: "0.0.0.0",
        OPTION_MTU: "1500",
    }
    return [
        (BRIDGE, NetworkDefinition("bridge", options=options)),
        (HOST, NetworkDefinition("host")),
        (NONE, NetworkDefinition("null")),
    ]


def define_network(request: CreateNetwork) -> NetworkDefinition:
    """Check a request and decide what it says; subnets that it leaves open stay open.

    Raises InvalidParameter, NotFound, Forbidden or NotSupported in Docker's words where it has some.
    """
    _check_name(request.name)
    driver = request.driver if request.driver not in ("", "default") else "bridge"
    _check_driver(driver, request)
    ipam = request.ipam
    if ipam is not None and ipam.driver not in ("", "default"):
        raise NotFound(f'plugin "{ipam.driver}" not found')
    definition = NetworkDefinition(
        driver=driver,
        enable_ipv4=request.enable_ipv4 is not False,
        enable_ipv6=bool(request.enable_ipv6),
        ipam_options=ipam.options if ipam else None,
        internal=request.internal,
        attachable=request.attachable,
        options=_checked_options(driver, request.options or {}),
        labels=request.labels or {},
    )
    definition.pools = _decided_pools(ipam.config or [] if ipam else [])
    definition.enable_ipv6 |= any(":" in pool.subnet for pool in definition.pools)
    if not (definition.enable_ipv4 or definition.enable_ipv6):
        raise InvalidParameter("IPv4 or IPv6 must be enabled")
    return definition


def _check_name(name: str) -> None:
    if not name.strip():
        raise InvalidParameter("invalid network name: name is empty")
    if not _NAME.fullmatch(name):
        raise InvalidParameter(
            f"{name} includes invalid characters for a local network name, only {_NAME.pattern} are allowed"
        )


def _check_driver(driver: str, request: CreateNetwork) -> None:
    if driver in ("host", "null", "none"):
        instance = "host" if driver == "host" else "null"
        raise Forbidden(f'only one instance of "{instance}" network is allowed')
    if driver == "overlay" or request.scope == "swarm" or request.ingress:
        raise NotSupported("cannot create a swarm scoped network when swarm is not active")
    if request.config_only or (request.config_from is not None and request.config_from.network):
        raise NotSupported(
            "networks that only hold configuration are not supported; give the options directly"
        )
    if driver not in DRIVERS:
        raise NotFound(f'plugin "{driver}" not found')


def _checked_options(driver: str, options: dict[str, str]) -> dict[str, str]:
    for option in (OPTION_ICC, OPTION_MASQUERADE):
        if options.get(option, "true").lower() not in ("true", "false", "1", "0"):
            raise InvalidParameter(f"invalid value for {option}: {options[option]!r}: use true or false")
    if driver == "macvlan":
        if not options.get(OPTION_PARENT):
            raise InvalidParameter("a macvlan network needs a parent interface: add -o parent=eth0")
        mode = options.get(OPTION_MACVLAN_MODE, "bridge")
        if mode not in MACVLAN_MODES:
            raise InvalidParameter(f"unknown macvlan mode {mode!r}: use one of {', '.join(MACVLAN_MODES)}")
    mtu = options.get(OPTION_MTU, "1500")
    if not mtu.isdecimal() or not 68 <= int(mtu) <= 65535:
        raise InvalidParameter(f"invalid value for {OPTION_MTU}: {mtu!r}: use a number from 68 to 65535")
    name = options.get(OPTION_NAME, "")
    if name and not _INTERFACE.fullmatch(name):
        raise InvalidParameter(f"invalid bridge name {name!r}: at most 15 characters, without space, / or :")
    return dict(options)


def _decided_pools(pools: Iterable[IpamPool]) -> list[IpamPool]:
    decided: list[IpamPool] = []
    for pool in pools:
        if not pool.subnet:
            if pool.gateway or pool.ip_range:
                raise InvalidParameter("invalid network config: a gateway or an ip-range needs a subnet")
            continue
        try:
            decided.append(decide_pool(pool))
        except ValueError as error:
            raise InvalidParameter(f"invalid network config:\n{error}") from error
    versions = [":" in pool.subnet for pool in decided]
    if len(versions) != len(set(versions)):
        raise InvalidParameter(
            "bridge driver doesn't support multiple subnets: at most one of each IP version"
        )
    return decided


def choose_missing_pools(
    definition: NetworkDefinition, network_id: str, in_use: list[Subnet]
) -> list[IpamPool]:
    """Every pool of the network: those given and, for what was left open, free ones.

    Raises Unavailable when no free subnet is left.
    """
    pools = list(definition.pools)
    has_v4 = any(":" not in pool.subnet for pool in pools)
    has_v6 = any(":" in pool.subnet for pool in pools)
    try:
        if definition.enable_ipv4 and not has_v4:
            pools.insert(0, decide_pool(IpamPool(str(choose_ipv4(in_use)))))
        if definition.enable_ipv6 and not has_v6:
            pools.append(decide_pool(IpamPool(str(choose_ipv6(network_id, in_use)))))
    except SubnetsExhausted as error:
        raise Unavailable(str(error)) from error
    return pools
