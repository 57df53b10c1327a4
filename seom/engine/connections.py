"""Changes of a container's networks after it was created: connect and disconnect, running or not."""

from __future__ import annotations

import contextlib
from functools import partial

from seom.containers.config import EndpointConfig
from seom.engine.endpoints import Endpoints
from seom.engine.network_records import (
    Endpoint,
    Member,
    Network,
    Sandbox,
    forwards_of,
    gateway_endpoint,
    make_plug,
)
from seom.engine.network_wishes import CONTAINER_MODE, ONLY_NONE, SHARED, check_wish, mode_network
from seom.errors import Forbidden
from seom.network.definition import HOST, NONE
from seom.network.dns_sockets import open_dns_sockets
from seom.storage.database import Database


class Connections:
    """Connects containers to networks and takes them out again."""

    def __init__(self, db: Database, networks: dict[str, Network], endpoints: Endpoints) -> None:
        self._db = db
        self._networks = networks
        self._endpoints = endpoints
        self._host = endpoints.host

    async def connect(self, network: Network, member: Member, config: EndpointConfig) -> None:
        """See Networks.connect."""
        mode = member.host.network_mode
        if mode.startswith(CONTAINER_MODE) or mode == HOST:
            raise Forbidden(SHARED)
        if network.name == HOST:
            raise Forbidden(
                "cannot connect container to host network - container must be created in host network mode"
            )
        complete_wishes(member)
        if NONE in member.endpoints or network.name == NONE:
            raise Forbidden(ONLY_NONE)
        if member.id in network.endpoints:
            raise Forbidden(f"endpoint with name {member.name} already exists in network {network.name}")
        check_wish(network, config)
        sandbox = self._endpoints.sandbox(member.id)
        if sandbox is not None and member.pid:
            await self._connect_running(sandbox, network, member, config)
        drop_wish(network, member)
        member.endpoints[network.name] = config

    async def _connect_running(
        self, sandbox: Sandbox, network: Network, member: Member, config: EndpointConfig
    ) -> None:
        used = {endpoint.interface for endpoint in sandbox.endpoints.values()}
        number = next(number for number in range(len(used) + 1) if f"eth{number}" not in used)
        endpoint = await self._endpoints.new_endpoint(network, member, config, number)
        sandbox.endpoints[network.name] = endpoint
        try:
            endpoint.save(self._db)
            await self._plug_in(sandbox, member, network, endpoint)
            await self._follow_gateway(sandbox, member)
        except BaseException:
            await self._remove_endpoint(sandbox, endpoint)
            raise
        self._endpoints.announce("connect", endpoint)

    async def _plug_in(self, sandbox: Sandbox, member: Member, network: Network, endpoint: Endpoint) -> None:
        plug = partial(make_plug, network, endpoint, False, False)
        needs_dns = sandbox.dns is None and self._endpoints.services.needs_dns(sandbox, member)

        def plug_in() -> None:
            assert sandbox.netns_fd is not None
            self._host.add_plug(sandbox.netns_fd, plug)
            if needs_dns:
                sandbox.dns_sockets = open_dns_sockets(sandbox.netns_fd)

        await self._endpoints.run_kernel_work(plug_in)

    async def disconnect(self, network: Network, member: Member) -> None:
        """See Networks.disconnect."""
        if network.name == HOST:
            raise Forbidden(
                "cannot disconnect container from host network - container was created in host network mode"
            )
        complete_wishes(member)
        sandbox = self._endpoints.sandbox(member.id)
        endpoint = sandbox.endpoints.get(network.name) if sandbox is not None else None
        if not drop_wish(network, member) and endpoint is None:
            raise Forbidden(f"container {member.id} is not connected to network {network.name}")
        if not member.endpoints:
            member.endpoints[NONE] = None
        if sandbox is not None and endpoint is not None:
            await self._remove_endpoint(sandbox, endpoint)
            await self._follow_gateway(sandbox, member)
            self._endpoints.announce("disconnect", endpoint)

    async def _remove_endpoint(self, sandbox: Sandbox, endpoint: Endpoint) -> None:
        network = self._networks[endpoint.network_id]
        sandbox.endpoints.pop(network.name, None)
        endpoint.delete(self._db)
        try:
            if endpoint.interface and sandbox.netns_fd is not None:
                with contextlib.suppress(OSError):
                    await self._endpoints.run(self._host.unplug, sandbox.netns_fd, endpoint.interface)
        finally:
            self._endpoints.drop_endpoint(endpoint, interface_gone=True)

    async def _follow_gateway(self, sandbox: Sandbox, member: Member) -> None:
        """Lead default routes and published ports through the endpoint that is the way outside now."""
        gateway = gateway_endpoint(sandbox.endpoints.values(), self._networks)
        if gateway is not None and not sandbox.reservation.ports:
            self._endpoints.reserve_ports(sandbox, member, gateway)
        before = sandbox.published
        sandbox.forwards = forwards_of(sandbox.reservation.ports, gateway) if gateway is not None else []
        sandbox.save(self._db)

        def lead() -> None:
            if gateway is not None and sandbox.netns_fd is not None:
                gateways = self._networks[gateway.network_id].gateways
                self._host.set_default_routes(sandbox.netns_fd, gateway.interface, gateways)
            self._host.move(before, sandbox.forwards)
            sandbox.published = list(sandbox.forwards)

        await self._endpoints.run_kernel_work(lead)
        self._endpoints.services.start(sandbox, member)
        self._endpoints.services.rewrite_files(sandbox, member)


def complete_wishes(member: Member) -> None:
    """Write down the network that a container without any wish joins, so that it can be left."""
    if not member.endpoints:
        member.endpoints[mode_network(member.host.network_mode)] = None


def drop_wish(network: Network, member: Member) -> bool:
    """Forget that a container wants a network; True when it did."""
    known = {network.name, network.id, network.id[:12]}
    names = [name for name in member.endpoints if mode_network(name) in known]
    for name in names:
        del member.endpoints[name]
    return bool(names)
