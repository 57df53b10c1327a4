"""Containers in networks: from a container's wishes to interfaces, addresses and ports, and back.

The order of an attach: addresses and host ports are taken (in memory), their rows written, then one
thread makes namespace, interfaces and NAT entries. Whatever fails, release() undoes the whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from seom.containers.config import EndpointConfig
from seom.engine.address_leases import AddressLeases
from seom.engine.network_ports import exposed_ports, port_requests
from seom.engine.network_records import (
    Endpoint,
    Member,
    Network,
    Sandbox,
    delete_sandbox,
    forwards_of,
    gateway_endpoint,
    make_plug,
    stored_forwards,
)
from seom.engine.network_settings import (
    NetworkSettings,
    PortSummary,
    planned_settings,
    port_summaries,
    running_settings,
)
from seom.engine.network_wishes import (
    CONTAINER_MODE,
    dns_names,
    mode_network,
    wishes_of,
)
from seom.engine.sandbox_services import SandboxServices
from seom.errors import Conflict, NotFound, SystemFailure
from seom.linux.network_namespace import open_network_of
from seom.network.bridge import new_veth_name
from seom.network.definition import HOST, OPTION_HOST_IP
from seom.network.departures import Departures
from seom.network.firewall import Forward
from seom.network.host import HostNetwork
from seom.network.ports import PortImpossible, PortRegistry, PortTaken
from seom.network.table_watch import TableWatch
from seom.storage.database import Database

Publish = Callable[[str, str, str, dict[str, str]], object]
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

log = logging.getLogger(__name__)

FAILED = "failed to set up container networking: "
_THREADS = 4


class Endpoints:
    """The sandboxes of running containers. Its methods are called with the container's lock held."""

    def __init__(
        self,
        db: Database,
        data_root: Path,
        instance: str,
        networks: dict[str, Network],
        find_network: Callable[[str], Network],
        find_container: Callable[[str], Member],
        publish: Publish,
    ) -> None:
        self.host = HostNetwork(instance)
        self.services = SandboxServices(data_root, networks, find_network, find_container)
        self._db = db
        self._networks = networks
        self._find_network = find_network
        self._find_container = find_container
        self._publish = publish
        self.sandboxes: dict[str, Sandbox] = {}
        self.departures = Departures()
        self._leases = AddressLeases(self.departures)
        self.port_registry = PortRegistry()
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="network")
        self._forwarding: set[int] = set()
        self._rules_wanted = False
        self._watch: TableWatch | None = None
        self._repair: asyncio.Task[None] | None = None
        self._unverified_forwards: list[Forward] = []
        self._ipv6_host = _has_ipv6()

    async def run(
        self, function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        """Run a blocking function in one of the network's threads; a cancelled caller waits for its end."""
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._executor, partial(function, *args, **kwargs))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise

    async def open(self) -> None:
        """Take stored endpoints into account, write the rules, and begin to prepare namespaces."""
        self.departures.open()
        for network in self._networks.values():
            for endpoint in network.endpoints.values():
                self._leases.retake(network, endpoint)
                if endpoint.veth:
                    self.departures.expect(endpoint.veth)
        await self._enable_forwarding()
        await self.replace_rules()
        self._watch = TableWatch(self.host.table, self._repair_soon)
        self.host.pool.open()

    def _repair_soon(self) -> None:
        """Look after the table, unless that is being done; its replacement by ourselves is told as well."""
        if self._repair is None or self._repair.done():
            self._repair = asyncio.get_running_loop().create_task(self._repair_rules())

    async def _repair_rules(self) -> None:
        try:
            if self._rules_wanted and not await self.run(self.host.rules_are_there):
                log.warning("the nftables table %s was deleted by somebody else; restored", self.host.table)
                await self.replace_rules()
        except OSError as error:
            log.error("the nftables table %s cannot be restored: %s", self.host.table, error)

    async def _enable_forwarding(self) -> None:
        versions = {pool.subnet.version for network in self._networks.values() for pool in network.pools}
        if versions <= self._forwarding:
            return
        for name, value in (await self.run(self.host.enable_forwarding, 6 in versions)).items():
            self._db.execute("INSERT OR IGNORE INTO host_setting VALUES (?,?)", name, value)
        self._forwarding |= versions

    async def replace_rules(self) -> None:
        """Write the whole firewall anew: after a network came or went."""
        self._rules_wanted = True
        await self._enable_forwarding()
        self._unverified_forwards = stored_forwards(self._db, self._networks)
        networks = [network.filtered() for network in self._networks.values() if network.driver == "bridge"]
        await self.run(self.host.replace_rules, networks, self._all_forwards)

    def _all_forwards(self) -> list[Forward]:
        """Every published port, now; called from other threads too."""
        live = [forward for sandbox in list(self.sandboxes.values()) for forward in sandbox.forwards]
        return live + self._unverified_forwards

    async def close(self) -> None:
        """Let go of descriptors and threads; containers keep their networks."""
        self.departures.close()
        if self._watch is not None:
            self._watch.close()
        if self._repair is not None:
            await asyncio.wait([self._repair])
        await self.run(self.host.close)
        for sandbox in self.sandboxes.values():
            sandbox.stop_serving()
            sandbox.close()
        self.sandboxes.clear()
        self._executor.shutdown()

    async def reset(self) -> None:
        """Remove everything of the instance from the host."""
        settings = {
            row["name"]: row["value"] for row in self._db.rows("SELECT name, value FROM host_setting")
        }
        for container_id in list(self.sandboxes):
            await self.release(container_id)
        self._rules_wanted = False
        await self.run(self.host.reset, settings)
        self._forwarding.clear()

    # Attach and release.

    async def attach(self, member: Member) -> Sandbox:
        """See Networks.attach."""
        if member.id in self.sandboxes:
            await self.release(member.id)
        mode = member.host.network_mode
        sandbox = self.sandboxes[member.id] = Sandbox(member.id, mode)
        try:
            if mode.startswith(CONTAINER_MODE):
                self._share(sandbox, member, mode.removeprefix(CONTAINER_MODE))
            else:
                await self._connect_all(sandbox, member)
        except NotFound as error:
            await self.release(member.id, announce=False)
            raise NotFound(f"{FAILED}{error}") from error
        except BaseException:
            await self.release(member.id, announce=False)
            raise
        for endpoint in sandbox.endpoints.values():
            self.announce("connect", endpoint)
        return sandbox

    def _share(self, sandbox: Sandbox, member: Member, reference: str) -> None:
        other = self._find_container(reference)
        if not other.pid:
            raise Conflict(
                f"cannot join network namespace of a non running container: container {other.name} is not "
                "running; start it first"
            )
        sandbox.share_with = other.id
        sandbox.netns_fd = open_network_of(other.pid)

    async def _connect_all(self, sandbox: Sandbox, member: Member) -> None:
        wishes = wishes_of(member, self._find_network)
        for number, (network, config) in enumerate(wishes):
            sandbox.endpoints[network.name] = await self.new_endpoint(network, member, config, number)
        gateway = gateway_endpoint(sandbox.endpoints.values(), self._networks)
        if gateway is not None:
            self.reserve_ports(sandbox, member, gateway)
        self.services.compose_files(sandbox, member)
        with self._db.transaction():
            for endpoint in sandbox.endpoints.values():
                endpoint.save(self._db)
            sandbox.save(self._db)
        if sandbox.mode != HOST:
            await self._make(sandbox, member, gateway)

    async def _make(self, sandbox: Sandbox, member: Member, gateway: Endpoint | None) -> None:
        plugs = [
            partial(
                make_plug,
                self._networks[endpoint.network_id],
                endpoint,
                endpoint is gateway,
                endpoint is gateway and bool(sandbox.forwards),
            )
            for endpoint in sandbox.endpoints.values()
            if endpoint.interface
        ]
        needs_dns = self.services.needs_dns(sandbox, member)

        def make() -> None:
            # Kept at once: a cancelled caller must still find what was made.
            sandbox.netns_fd, sandbox.dns_sockets = self.host.new_sandbox(plugs, needs_dns)
            self.host.publish(sandbox.forwards)
            sandbox.published = list(sandbox.forwards)

        await self.run_kernel_work(make)
        self.services.start(sandbox, member)
        if sandbox.dns_sockets is not None:
            sandbox.save(self._db)

    async def run_kernel_work(self, work: Callable[[], None]) -> None:
        """Do what may fail with OSError in a thread; raises SystemFailure then."""
        try:
            await self.run(work)
        except OSError as error:
            raise SystemFailure(f"{FAILED}{error}") from error

    async def new_endpoint(
        self, network: Network, member: Member, config: EndpointConfig, number: int
    ) -> Endpoint:
        """An endpoint with its addresses taken, interface eth NUMBER; see AddressLeases.take for errors."""
        endpoint = Endpoint(secrets.token_hex(32), network.id, member.id, member.name, config)
        if network.pools:
            await self._leases.take(network, config, endpoint)
            if network.id not in self._networks:
                raise NotFound(f"network {network.name} not found")
            endpoint.interface = f"eth{number}"
        if network.driver == "bridge":
            endpoint.veth = new_veth_name()
            self.departures.expect(endpoint.veth)
        if network.user_defined:
            endpoint.dns_names = dns_names(member, config)
        network.endpoints[member.id] = endpoint
        return endpoint

    def reserve_ports(self, sandbox: Sandbox, member: Member, gateway: Endpoint) -> None:
        """Reserve the host ports asked for; raises SystemFailure in Docker's words."""
        network = self._networks[gateway.network_id]
        if network.driver != "bridge":
            return
        requests = port_requests(
            member.config,
            member.host,
            network.definition.options.get(OPTION_HOST_IP, "").replace("0.0.0.0", ""),
            self._ipv6_host,
        )
        endpoint = f"{member.name} ({gateway.id})"
        failed = f"{FAILED}driver failed programming external connectivity on endpoint {endpoint}: "
        try:
            sandbox.reservation = self.port_registry.reserve(requests, member.name)
        except (PortTaken, PortImpossible) as error:
            raise SystemFailure(f"{failed}{error}") from error
        except OSError as error:
            raise SystemFailure(f"{failed}{error.strerror}") from error
        sandbox.forwards = forwards_of(sandbox.reservation.ports, gateway)

    async def release(self, container_id: str, announce: bool = True) -> None:
        """See Networks.release."""
        sandbox = self.sandboxes.pop(container_id, None)
        if sandbox is None:
            return
        made = sandbox.netns_fd is not None
        sandbox.stop_serving()
        try:
            with contextlib.suppress(OSError):
                await self.run(self.host.withdraw, sandbox.published)
        finally:
            self.port_registry.release(sandbox.reservation)
            delete_sandbox(self._db, container_id)
            for endpoint in sandbox.endpoints.values():
                self.drop_endpoint(endpoint, interface_gone=not made)
                if announce:
                    self.announce("disconnect", endpoint)
            await self.run(sandbox.close)

    def drop_endpoint(self, endpoint: Endpoint, interface_gone: bool) -> None:
        """Forget an endpoint; its addresses are free once its interface is gone."""
        network = self._networks[endpoint.network_id]
        network.endpoints.pop(endpoint.container_id, None)
        if interface_gone:
            self.departures.forget(endpoint.veth)
        self._leases.free(network, endpoint)

    def announce(self, action: str, endpoint: Endpoint) -> None:
        """Publish that a container was connected or disconnected."""
        network = self._networks[endpoint.network_id]
        self._publish(
            "network",
            action,
            network.id,
            {"container": endpoint.container_id, "name": network.name, "type": network.driver},
        )

    async def settled(self) -> None:
        """See Networks.settled."""
        await self._leases.settled()

    # What is shown.

    def sandbox(self, container_id: str) -> Sandbox | None:
        """What a running container has, or None."""
        return self.sandboxes.get(container_id)

    def netns_fd(self, container_id: str) -> int | None:
        """See Networks.netns_fd."""
        sandbox = self.sandboxes.get(container_id)
        return sandbox.netns_fd if sandbox is not None else None

    def rename(self, container_id: str, name: str) -> None:
        """See Networks.rename."""
        for network in self._networks.values():
            endpoint = network.endpoints.get(container_id)
            if endpoint is not None:
                endpoint.dns_names = [
                    name if old == endpoint.container_name else old for old in endpoint.dns_names
                ]
                endpoint.container_name = name
                endpoint.save(self._db)

    def settings(self, member: Member) -> NetworkSettings:
        """See Networks.settings."""
        sandbox = self.sandboxes.get(member.id)
        if sandbox is not None:
            exposed = exposed_ports(member.config, member.host)
            return running_settings(sandbox, self._networks, member.pid, exposed)
        mode = member.host.network_mode
        if mode.startswith(CONTAINER_MODE):
            return NetworkSettings()
        planned = {mode_network(mode): EndpointConfig()} | {
            mode_network(name): config or EndpointConfig() for name, config in member.endpoints.items()
        }
        return NetworkSettings(networks={name: planned_settings(config) for name, config in planned.items()})

    def ports(self, member: Member) -> list[PortSummary]:
        """See Networks.ports."""
        sandbox = self.sandboxes.get(member.id)
        if sandbox is None:
            return []
        return port_summaries(sandbox.reservation.ports, exposed_ports(member.config, member.host))


def _has_ipv6() -> bool:
    """Whether the host can bind IPv6 sockets."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
