"""From Docker's port options to requests for host ports."""

from __future__ import annotations

from collections.abc import Iterator

from seom.containers.config import Config, HostConfig, PortBinding
from seom.errors import InvalidParameter
from seom.network.ports import PortRequest, host_addresses, parse_container_port, parse_port_range


def exposed_ports(config: Config, host: HostConfig) -> list[str]:
    """Container ports as PORT/PROTOCOL that are exposed or bound, in order."""
    names: dict[str, None] = {}
    for name in (*(config.exposed_ports or {}), *(host.port_bindings or {})):
        names[name if "/" in name else f"{name}/tcp"] = None
    return list(names)


def port_requests(config: Config, host: HostConfig, default_host_ip: str, ipv6: bool) -> list[PortRequest]:
    """What `-p` and `-P` ask for; raises InvalidParameter for what cannot be read.

    default_host_ip is used where a binding names no address; ipv6 says whether the host has IPv6.
    """
    requests = [
        _request(name, binding, default_host_ip, ipv6)
        for name, bindings in (host.port_bindings or {}).items()
        for binding in bindings or [PortBinding()]
    ]
    if host.publish_all_ports:
        bound = {(request.container_port, request.protocol) for request in requests}
        requests += [
            request
            for request in _publish_all(config, default_host_ip, ipv6)
            if (request.container_port, request.protocol) not in bound
        ]
    return sorted(requests, key=lambda request: request.first_host_port == 0)


def _publish_all(config: Config, default_host_ip: str, ipv6: bool) -> Iterator[PortRequest]:
    for name in config.exposed_ports or {}:
        first, last, protocol = _exposed_range(name)
        for port in range(first, last + 1):
            yield _request(f"{port}/{protocol}", PortBinding(), default_host_ip, ipv6)


def _exposed_range(name: str) -> tuple[int, int, str]:
    numbers, _, protocol = name.partition("/")
    try:
        first, last = parse_port_range(numbers)
    except ValueError as error:
        raise InvalidParameter(f"invalid port specification: {name!r}") from error
    return first, last, protocol or "tcp"


def _request(name: str, binding: PortBinding, default_host_ip: str, ipv6: bool) -> PortRequest:
    try:
        container_port, protocol = parse_container_port(name)
        first, last = parse_port_range(binding.host_port)
    except ValueError as error:
        raise InvalidParameter(str(error)) from error
    try:
        addresses = host_addresses(binding.host_ip or default_host_ip, ipv6)
    except ValueError as error:
        raise InvalidParameter(
            f"invalid IP address {binding.host_ip!r} in the binding of port {name}"
        ) from error
    return PortRequest(container_port, protocol, addresses, first, last)
