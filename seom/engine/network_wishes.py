"""What a container asks of networks: checked when it is created, ordered when it starts."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from ipaddress import ip_address

from seom.containers.config import Config, EndpointConfig, HostConfig
from seom.engine.network_files import extra_hosts, split_link
from seom.engine.network_ports import port_requests
from seom.engine.network_records import Member, Network
from seom.errors import InvalidParameter, NotFound
from seom.network.definition import BRIDGE, HOST, NONE

Wish = tuple[Network, EndpointConfig]

_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")

CONTAINER_MODE = "container:"
SHARED = (
    "container sharing network namespace with another container or host "
    "cannot be connected to any other network"
)
ONLY_NONE = (
    "container cannot be connected to multiple networks with one of the networks in private (none) mode"
)


def mode_network(mode: str) -> str:
    """The network that a network mode names."""
    return BRIDGE if mode in ("", "default") else mode


def check_request(config: Config, host: HostConfig, endpoints: dict[str, EndpointConfig | None]) -> list[str]:
    """Check a create request; returns warnings, raises InvalidParameter in Docker's words where it has some.

    Completes endpoints in place: the network of the network mode is one of them from then on, under
    its own name instead of `default`.
    """
    mode = host.network_mode
    _check_container_mode(config, host, mode)
    port_requests(config, host, "", ipv6=False)
    extra_hosts(Member("", "", config, host, {}), gateway="0.0.0.0")
    for server in host.dns or []:
        _check_address(server, "invalid DNS server")
    if config.mac_address and not _MAC.fullmatch(config.mac_address):
        raise InvalidParameter(f"invalid MAC address: {config.mac_address}")
    if mode.startswith(CONTAINER_MODE) or mode == HOST:
        _check_shared(config, host, mode)
    if mode.startswith(CONTAINER_MODE):
        if endpoints:
            raise InvalidParameter(SHARED)
        return []
    wishes = {mode_network(name): wish for name, wish in endpoints.items()}
    main = mode_network(mode)
    endpoints.clear()
    endpoints.update({main: wishes.pop(main, None), **wishes})
    if len(endpoints) > 1 and HOST in endpoints:
        raise InvalidParameter(SHARED)
    if len(endpoints) > 1 and NONE in endpoints:
        raise InvalidParameter(ONLY_NONE)
    if mode == HOST and host.port_bindings:
        return ["Published ports are discarded when using host network mode"]
    return []


def check_known(
    host: HostConfig,
    endpoints: dict[str, EndpointConfig | None],
    find_network: Callable[[str], Network],
    find_container: Callable[[str], Member],
) -> None:
    """Check what a create request says of networks and containers that exist.

    A network that does not exist is refused by the start. Raises InvalidParameter: for "not found" the
    docker command line would pull the image and try again.
    """
    for name, config in endpoints.items():
        with contextlib.suppress(NotFound):
            network = find_network(name)
            try:
                check_wish(network, config or EndpointConfig())
            except InvalidParameter as error:
                raise InvalidParameter(f"invalid config for network {network.name}: {error}") from error
    for link in host.links or []:
        target = split_link(link)[0]
        try:
            find_container(target)
        except NotFound as error:
            raise InvalidParameter(f"could not get container for {target}: {error}") from error
    if host.network_mode.startswith(CONTAINER_MODE):
        try:
            find_container(host.network_mode.removeprefix(CONTAINER_MODE))
        except NotFound as error:
            raise InvalidParameter(f"joining network namespace of container: {error}") from error


def _check_container_mode(config: Config, host: HostConfig, mode: str) -> None:
    if not mode.startswith(CONTAINER_MODE):
        return
    if not mode.removeprefix(CONTAINER_MODE):
        raise InvalidParameter("Invalid network mode: a container must be named, as in container:NAME")
    if config.hostname:
        raise InvalidParameter("conflicting options: hostname and the network mode")
    if host.port_bindings or host.publish_all_ports:
        raise InvalidParameter("conflicting options: port publishing and the container type network mode")
    if host.dns:
        raise InvalidParameter("conflicting options: dns and the network mode")
    if host.extra_hosts:
        raise InvalidParameter("conflicting options: custom host-to-IP mapping and the network mode")


def _check_shared(config: Config, host: HostConfig, mode: str) -> None:
    if host.links:
        kind = "host type networking" if mode == HOST else "container type network"
        raise InvalidParameter(
            f"conflicting options: {kind} can't be used with links. This would result in undefined behavior"
        )
    if config.mac_address:
        raise InvalidParameter("conflicting options: mac-address and the network mode")


def _check_address(text: str, what: str) -> None:
    try:
        ip_address(text)
    except ValueError as error:
        raise InvalidParameter(f"{what}: {text!r} is not an IP address") from error


def wishes_of(member: Member, find_network: Callable[[str], Network]) -> list[Wish]:
    """The networks to join and how: that of the network mode first, the others by name."""
    main = mode_network(member.host.network_mode)
    wanted: dict[str, Wish] = {}
    for name, config in (member.endpoints or {main: None}).items():
        network = find_network(name)
        # One network may be wanted twice, by name and by id: what is said of it counts.
        if config is not None or network.id not in wanted:
            wanted[network.id] = (network, config or EndpointConfig())
    found = list(wanted.values())
    for network, config in found:
        check_wish(network, config)
    found.sort(key=lambda wish: (main not in (wish[0].name, wish[0].id), wish[0].name))
    config = found[0][1]
    if member.config.mac_address and not config.mac_address:
        config.mac_address = member.config.mac_address
    return found


def wants(member: Member, network: Network) -> bool:
    """Whether a container has the network among its wishes."""
    names = {mode_network(name) for name in member.endpoints or [member.host.network_mode]}
    return network.name in names or any(network.id.startswith(name) for name in names)


def check_wish(network: Network, config: EndpointConfig) -> None:
    """Refuse what only user-defined networks can do; raises InvalidParameter in Docker's words."""
    if config.mac_address and not _MAC.fullmatch(config.mac_address):
        raise InvalidParameter(f"invalid MAC address: {config.mac_address}")
    ipam = config.ipam_config
    if ipam is not None:
        for text in (ipam.ipv4_address, ipam.ipv6_address):
            if text:
                _check_address(text, "invalid endpoint settings:\ninvalid IP address")
    if network.user_defined:
        return
    if ipam is not None and (ipam.ipv4_address or ipam.ipv6_address):
        raise InvalidParameter(
            "invalid endpoint settings:\nuser specified IP address is supported on user defined networks only"
        )
    if config.aliases:
        raise InvalidParameter(
            "network-scoped alias is supported only for containers in user defined networks"
        )


def dns_names(member: Member, config: EndpointConfig) -> list[str]:
    """The names a container is found by: its own, its aliases, its short id, its host name."""
    names = [member.name, *(config.aliases or []), member.id[:12], member.config.hostname]
    return list(dict.fromkeys(name for name in names if name))
