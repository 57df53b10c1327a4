"""What networks do: create, remove, attach containers to them and let them go.

A daemon's life with them:

    open() ---- recover(member) for each container found running ---- finish_recovery()
                     |
        attach(member) -> Sandbox ... the container runs ... release(container_id)
        connect / disconnect while it runs
                     |
    close()  (containers go on)            reset()  (nothing of the instance is left)

Facts that must outlive the daemon are rows (network_records); what is in the kernel belongs to the
running containers and needs no daemon. Kernel work happens in a few threads of its own, so that an
image being unpacked never delays a start.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from seom.containers.config import Config, EndpointConfig, HostConfig
from seom.engine.connections import Connections
from seom.engine.endpoints import Endpoints
from seom.engine.filters import Filters
from seom.engine.network_definitions import choose_missing_pools, define_network, predefined_networks
from seom.engine.network_records import Endpoint, Member, Network, Sandbox, load_networks, overlapping
from seom.engine.network_recovery import NetworkRecovery
from seom.engine.network_settings import NetworkDocument, NetworkSettings, PortSummary, network_document
from seom.engine.network_wishes import check_known, check_request
from seom.engine.timestamps import parse_timestamp
from seom.errors import Conflict, Forbidden, InvalidParameter, NotFound, SystemFailure
from seom.network.addresses import Subnet
from seom.network.definition import (
    BRIDGE,
    OPTION_NAME,
    PREDEFINED,
    CreateNetwork,
    IpamPool,
    NetworkDefinition,
    address_pool,
)
from seom.network.host import BridgeSettings
from seom.storage.database import Database

Publish = Callable[[str, str, str, dict[str, str]], object]


class Networks:
    """The networks of one instance.

    data_root and instance say whose they are. find looks a container up by id, name or prefix and
    raises NotFound; save stores a container whose endpoints were changed by connect or disconnect
    (both by container id). publish takes type, action, actor id and attributes of an event.
    """

    def __init__(
        self,
        db: Database,
        data_root: Path,
        instance: str,
        find: Callable[[str], Member],
        save: Callable[[str], None],
        publish: Publish,
    ) -> None:
        self._db = db
        self._instance = instance
        self._find_container = find
        self._save_container = save
        self._publish = publish
        self._networks: dict[str, Network] = {}
        self._creating = asyncio.Lock()
        self._needs_bridges = False
        self._endpoints = Endpoints(db, data_root, instance, self._networks, self.find, find, publish)
        self._recovery = NetworkRecovery(db, self._networks, self._endpoints)
        self._connections = Connections(db, self._networks, self._endpoints)
        self._host = self._endpoints.host

    async def open(self) -> None:
        """Bring bridges and rules up; containers that ran under an earlier daemon keep theirs.

        Raises SystemFailure when the host cannot do bridge networks.
        """
        self._load()
        try:
            await self._open_kernel()
        except OSError as error:
            raise SystemFailure(
                f"the host's network cannot be set up: {error}; run `seom doctor` to see what is missing"
            ) from error

    def _load(self) -> None:
        self._networks.update({network.id: network for network in load_networks(self._db, self._instance)})
        known = {network.name for network in self._networks.values()}
        for name, definition in predefined_networks():
            if name not in known:
                self._add(name, definition)
        default = self.find(BRIDGE)
        default.definition.options[OPTION_NAME] = default.bridge

    async def _open_kernel(self) -> None:
        await self._endpoints.run(
            self._host.remove_stray_bridges, [network.alias for network in self._networks.values()]
        )
        for network in self._networks.values():
            if network.driver == "bridge":
                await self._ensure_bridge(network)
        await self._endpoints.open()

    async def _ensure_bridge(self, network: Network) -> None:
        """Create the bridge again after a reboot; the default network may then move to a free subnet."""
        if not network.definition.pools:
            await self._create_bridge(network)
        elif network.name == BRIDGE and not network.endpoints:
            in_use = await self._endpoints.run(self._host.subnets_in_use_by_others)
            if any(_overlaps(pool.subnet, other) for pool in network.pools for other in in_use):
                await self._endpoints.run(self._host.remove_bridge, network.bridge, network.alias)
                network.definition.pools = []
                await self._create_bridge(network)
        if not network.bridge_index:
            network.bridge_index = await self._endpoints.run(
                self._host.ensure_bridge, network.bridge_settings()
            )
        network.save(self._db)

    async def _create_bridge(self, network: Network) -> None:
        """Decide the subnets left open and make the bridge, while no other instance can choose."""
        mine = [pool.subnet for other in self._networks.values() for pool in other.pools]

        def choose(in_use: list[Subnet]) -> BridgeSettings:
            _decide_pools(network, [*in_use, *mine])
            return network.bridge_settings()

        network.bridge_index = await self._endpoints.run(partial(self._host.ensure_chosen_bridge, choose))

    async def close(self) -> None:
        """Let go of everything held by the daemon itself; containers keep their networks."""
        await self._endpoints.close()

    async def reset(self) -> None:
        """Remove bridges, rules and host settings of this instance; no container may run.

        The networks of a first start are there again, their bridges once they are needed.
        """
        await self._endpoints.reset()
        with self._db.transaction():
            for table in ("sandbox", "endpoint", "network", "host_setting"):
                self._db.execute(f"DELETE FROM {table}")
        self._networks.clear()
        self._load()
        self._needs_bridges = True

    async def _bring_back_bridges(self) -> None:
        """Make what reset() removed."""
        async with self._creating:
            if self._needs_bridges:
                for network in list(self._networks.values()):
                    if network.driver == "bridge":
                        await self._ensure_bridge(network)
                await self._endpoints.replace_rules()
                self._needs_bridges = False

    # Containers.

    def check_request(
        self, config: Config, host: HostConfig, endpoints: dict[str, EndpointConfig | None]
    ) -> list[str]:
        """Check a create request's network options, and complete endpoints in place; returns warnings.

        config is as the client sent it, without a default host name. Raises InvalidParameter in
        Docker's words where it has some.
        """
        warnings = check_request(config, host, endpoints)
        check_known(host, endpoints, self.find, self._find_container)
        return warnings

    async def attach(self, member: Member) -> Sandbox:
        """Give a container that is about to start its namespace, endpoints and published ports.

        Raises NotFound for an unknown network, Conflict, InvalidParameter, SystemFailure for a port
        that is taken (Docker's words and who holds it). After a failure nothing is left.
        """
        if self._needs_bridges:
            await self._bring_back_bridges()
        return await self._endpoints.attach(member)

    async def release(self, container_id: str) -> None:
        """Take back what a container had, after its exit; ports are free when this returns.

        Its addresses are free as soon as the kernel has removed its interfaces.
        """
        await self._endpoints.release(container_id)

    async def settled(self) -> None:
        """Return when the kernel has removed the interfaces of all released containers."""
        await self._endpoints.settled()

    async def recover(self, member: Member) -> Sandbox:
        """Take over a container that ran on while there was no daemon; member.pid is its process."""
        return await self._recovery.recover(member)

    async def finish_recovery(self) -> None:
        """Drop what is stored or in the kernel of containers that were not recovered."""
        await self._recovery.finish()

    def netns_fd(self, container_id: str) -> int | None:
        """The network namespace of a running container; None when it has none of its own."""
        return self._endpoints.netns_fd(container_id)

    def rename(self, container_id: str, name: str) -> None:
        """A container got another name."""
        self._endpoints.rename(container_id, name)

    def settings(self, member: Member) -> NetworkSettings:
        """NetworkSettings of a container's inspect document, running or not."""
        return self._endpoints.settings(member)

    def ports(self, member: Member) -> list[PortSummary]:
        """Ports of a container in the list of containers."""
        return self._endpoints.ports(member)

    # Networks.

    def find(self, reference: str) -> Network:
        """A network by name, id or unambiguous beginning of its id; raises NotFound or Conflict."""
        by_name = next((network for network in self._networks.values() if network.name == reference), None)
        if by_name is not None:
            return by_name
        if reference in self._networks:
            return self._networks[reference]
        matches = [
            network for id, network in self._networks.items() if reference and id.startswith(reference)
        ]
        if not matches:
            raise NotFound(f"network {reference} not found")
        if len(matches) > 1:
            raise Conflict(
                f"network {reference} is ambiguous ({len(matches)} matches found based on ID prefix)"
            )
        return matches[0]

    def listing(self, filters: Filters) -> list[NetworkDocument]:
        """The networks that pass the filters: id, name, driver, scope, type, label and dangling."""
        return [
            network_document(network, containers=False)
            for network in self._networks.values()
            if _passes(network, filters)
        ]

    def inspect(self, reference: str) -> NetworkDocument:
        """A network with its containers; raises NotFound."""
        return network_document(self.find(reference))

    async def create(self, request: CreateNetwork) -> str:
        """Create a network and return its id.

        Raises Conflict for a name in use, Forbidden for a subnet in use, InvalidParameter, Unavailable.
        """
        definition = define_network(request)
        async with self._creating:
            if request.name in (*PREDEFINED, "default"):
                raise Forbidden(f"operation is not permitted on predefined {request.name} network")
            if any(network.name == request.name for network in self._networks.values()):
                raise Conflict(f"network with name {request.name} already exists")
            network = self._new(request.name, definition)
            if overlapping(network, [*self._networks.values()]) is not None:
                raise Forbidden("invalid pool request: Pool overlaps with other one on this address space")
            await self._create_in_kernel(network)
        self._publish("network", "create", network.id, _attributes(network))
        return network.id

    async def _create_in_kernel(self, network: Network) -> None:
        try:
            if network.driver == "bridge":
                await self._create_bridge(network)
            else:
                await self._endpoints.run(self._decide_freely, network)
            self._networks[network.id] = network
            await self._endpoints.replace_rules()
            network.save(self._db)
        except BaseException as error:
            self._networks.pop(network.id, None)
            if network.bridge_index:
                await self._endpoints.run(self._host.remove_bridge, network.bridge, network.alias)
            if isinstance(error, OSError):
                raise SystemFailure(f"cannot create network {network.name}: {error}") from error
            raise

    def _decide_freely(self, network: Network) -> None:
        _decide_pools(network, self._host.subnets_in_use_by_others())

    async def remove(self, reference: str) -> None:
        """Remove a network; raises NotFound, Forbidden for predefined ones and while containers use it."""
        network = self.find(reference)
        if network.predefined:
            raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
        if network.endpoints:
            users = " ".join(
                f'name:"{endpoint.container_name}" id:"{endpoint.container_id[:12]}"'
                for endpoint in network.endpoints.values()
            )
            raise Forbidden(
                f"error while removing network: network {network.name} has active endpoints ({users}); "
                "stop or disconnect these containers first"
            )
        del self._networks[network.id]
        self._db.execute("DELETE FROM network WHERE id=?", network.id)
        await self._endpoints.replace_rules()
        await self._endpoints.run(self._host.remove_bridge, network.bridge, network.alias)
        self._publish("network", "destroy", network.id, _attributes(network))

    async def prune(self, filters: Filters) -> list[str]:
        """Remove user-defined networks without running containers; returns their names."""
        until = filters.one("until")
        before_ns = parse_timestamp(until) if until else None
        removed = []
        for network in list(self._networks.values()):
            if (
                network.user_defined
                and not network.endpoints
                and (before_ns is None or network.created_ns < before_ns)
                and filters.matches_labels(network.definition.labels)
                and not filters.excludes_labels(network.definition.labels)
            ):
                await self.remove(network.id)
                removed.append(network.name)
        self._publish("network", "prune", "", {"reclaimed": "0"})
        return removed

    async def connect(self, reference: str, container: str, config: EndpointConfig | None) -> None:
        """Add a container to a network, at once when it runs, else from its next start on."""
        member, network = self._find_container(container), self.find(reference)
        await self._connections.connect(network, member, config or EndpointConfig())
        self._save_container(member.id)

    async def disconnect(self, reference: str, container: str, force: bool) -> None:
        """Take a container out of a network; force also when the container is unknown."""
        network = self.find(reference)
        try:
            member = self._find_container(container)
        except NotFound:
            endpoint = self._endpoint_named(network, container) if force else None
            if endpoint is None:
                raise
            await self._endpoints.release(endpoint.container_id)
            return
        await self._connections.disconnect(network, member)
        self._save_container(member.id)

    @staticmethod
    def _endpoint_named(network: Network, container: str) -> Endpoint | None:
        return next(
            (
                endpoint
                for endpoint in network.endpoints.values()
                if container in (endpoint.container_name, endpoint.container_id)
            ),
            None,
        )

    def _new(self, name: str, definition: NetworkDefinition) -> Network:
        return Network(secrets.token_hex(32), name, time.time_ns(), definition, self._instance)

    def _add(self, name: str, definition: NetworkDefinition) -> None:
        network = self._new(name, definition)
        self._networks[network.id] = network
        network.save(self._db)


def _attributes(network: Network) -> dict[str, str]:
    return {"name": network.name, "type": network.driver}


def _overlaps(a: Subnet, b: Subnet) -> bool:
    return a.version == b.version and a.overlaps(b)


def _decide_pools(network: Network, in_use: list[Subnet]) -> None:
    decided: list[IpamPool] = choose_missing_pools(network.definition, network.id, in_use)
    network.definition.pools = decided
    network.pools = [address_pool(pool) for pool in decided]


def _passes(network: Network, filters: Filters) -> bool:
    for wanted in filters.values("type"):
        if wanted not in ("builtin", "custom"):
            raise InvalidParameter(f"invalid filter: 'type'='{wanted}'")
    kind = "builtin" if network.predefined else "custom"
    unused = not network.predefined and not network.endpoints
    return (
        filters.matches_prefix("id", network.id)
        and filters.matches_part("name", network.name)
        and filters.matches("driver", network.driver)
        and filters.matches("scope", "local")
        and filters.matches("type", kind)
        and filters.matches_labels(network.definition.labels)
        and ("dangling" not in filters or filters.flag("dangling", False) == unused)
    )
