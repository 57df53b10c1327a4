"""Which containers a list or prune request means."""

from __future__ import annotations

import re
from collections.abc import Iterable

from seom.engine.container import Container, Status
from seom.engine.engine import Engine
from seom.engine.filters import Filters, invalid_filter
from seom.engine.timestamps import parse_timestamp
from seom.errors import InvalidParameter

FILTERS = frozenset(
    "ancestor before exited expose health id is-task isolation label name network publish since status "
    "volume".split()
)


def select(engine: Engine, filters: Filters, all: bool, limit: int) -> list[Container]:
    """The containers that pass, newest first; without all, limit or a filter on state only running ones."""
    _check(filters)
    include_stopped = all or limit > 0 or "status" in filters or "exited" in filters
    candidates = [
        container
        for container in engine.containers.all()
        if include_stopped or container.running or container.state.status == Status.RESTARTING
    ]
    candidates = _between(engine, candidates, filters)
    found = [container for container in candidates if _matches(engine, container, filters)]
    return found[:limit] if limit > 0 else found


def _check(filters: Filters) -> None:
    for value in filters.values("status"):
        if value not in set(Status):
            raise InvalidParameter(f"invalid filter 'status={value}': choose one of {', '.join(Status)}")
    for value in filters.values("exited"):
        if not value.lstrip("-").isdecimal():
            raise invalid_filter("exited", [value])
    for value in filters.values("health"):
        if value not in ("starting", "healthy", "unhealthy", "none"):
            raise invalid_filter("health", [value])


def _between(engine: Engine, containers: list[Container], filters: Filters) -> list[Container]:
    for name in filters.values("before"):
        limit = engine.containers.get(name).created_ns
        containers = [found for found in containers if found.created_ns < limit]
    for name in filters.values("since"):
        limit = engine.containers.get(name).created_ns
        containers = [found for found in containers if found.created_ns > limit]
    until = filters.one("until")
    if until is not None:
        limit = parse_timestamp(until)
        containers = [found for found in containers if found.created_ns < limit]
    return containers


def _matches(engine: Engine, container: Container, filters: Filters) -> bool:
    state = container.state
    labels = container.config.labels
    health = state.health.status if state.health else "none"
    exited = str(state.exit_code) if state.status == Status.EXITED else ""
    return (
        filters.matches("status", state.status)
        and filters.matches("health", health)
        and filters.matches("exited", exited)
        and filters.matches_prefix("id", container.id)
        and _matches_name(container, filters)
        and filters.matches_labels(labels)
        and not filters.excludes_labels(labels)
        and _matches_ancestor(engine, container, filters)
        and _matches_any("network", filters, _networks(engine, container))
        and _matches_any("volume", filters, _volumes(container))
        and _matches_ports("expose", filters, container.config.exposed_ports or {})
        and _matches_ports("publish", filters, container.host.port_bindings or {})
        and filters.matches("is-task", "false")
        and filters.matches("isolation", container.host.isolation or "default")
    )


def _matches_name(container: Container, filters: Filters) -> bool:
    """Docker matches names as regular expressions, with and without the leading slash."""
    if "name" not in filters:
        return True
    try:
        return any(
            re.search(wanted, candidate)
            for wanted in filters.values("name")
            for candidate in (container.name, f"/{container.name}")
        )
    except re.error as error:
        raise invalid_filter("name", filters.values("name")) from error


def _matches_ancestor(engine: Engine, container: Container, filters: Filters) -> bool:
    if "ancestor" not in filters:
        return True
    chain = container.definition.diff_ids
    for wanted in filters.values("ancestor"):
        image_id = engine.images.id_of(wanted)
        if container.config.image == wanted or container.definition.image_id == image_id:
            return True
        ancestors = engine.images.diff_ids_of(image_id) if image_id else []
        if ancestors and chain[: len(ancestors)] == ancestors:
            return True
    return False


def _matches_any(key: str, filters: Filters, candidates: Iterable[str]) -> bool:
    return key not in filters or not set(filters.values(key)).isdisjoint(candidates)


def _networks(engine: Engine, container: Container) -> list[str]:
    networks = engine.networks.settings(container.member()).networks
    return [text for name, settings in networks.items() for text in (name, settings.network_id)]


def _volumes(container: Container) -> list[str]:
    return [text for mount in container.definition.mounts for text in (mount.name, mount.destination) if text]


def _matches_ports(key: str, filters: Filters, ports: Iterable[str]) -> bool:
    if key not in filters:
        return True
    known = set(ports)
    return any(port in known for wanted in filters.values(key) for port in _port_keys(wanted))


def _port_keys(wanted: str) -> list[str]:
    """80, 80/udp or 80-90/tcp as keys of a ports map."""
    numbers, _, protocol = wanted.partition("/")
    first, _, last = numbers.partition("-")
    try:
        return [f"{port}/{protocol or 'tcp'}" for port in range(int(first), int(last or first) + 1)]
    except ValueError as error:
        raise InvalidParameter(f'invalid port "{wanted}": write 80, 80/udp or 80-90/tcp') from error
