"""Containers in networks: from a container's wishes to interfaces, addresses and ports, and back.

The order of an attach: addresses and host ports are taken (in memory), their rows written, then one
thread makes namespace, interfaces and NAT entries. Whatever fails, release() undoes the whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from seom.containers.config import EndpointConfig
from seom.engine import network_files
from seom.engine.address_leases import AddressLeases
from seom.engine.container_names import ContainerNames
from seom.engine.network_ports import exposed_ports, port_requests
from seom.engine.network_records import (
    Endpoint,
    Member,
    Network,
    Sandbox,
    delete_sandbox,
    forwards_of,
    load_sandbox_record,
    published,
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
    ONLY_NONE,
    SHARED,
    check_wish,
    dns_names,
    mode_network,
    wishes_of,
)
from seom.errors import Conflict, Forbidden, SeomError, SystemFailure
from seom.linux.network_namespace import open_network_of
from seom.network.addresses import Address
from seom.network.bridge import Plug, new_veth_name
from seom.network.definition import BRIDGE, HOST, NONE, OPTION_HOST_IP, OPTION_ICC
from seom.network.departures import Departures
from seom.network.dns import DnsServer
from seom.network.dns_sockets import open_dns_sockets
from seom.network.firewall import Forward
from seom.network.host import HostNetwork
from seom.network.ports import PortRegistry, PortTaken
from seom.network.relay import Relay
from seom.storage.database import Database

Publish = Callable[[str, str, str, dict[str, str]], object]
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

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
        self._db = db
        self._data_root = data_root
        self._networks = networks
        self._find_network = find_network
        self._find_container = find_container
        self._publish = publish
        self._sandboxes: dict[str, Sandbox] = {}
        self._departures = Departures()
        self._leases = AddressLeases(self._departures)
        self._ports = PortRegistry()
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="network")
        self._forwarding: set[int] = set()
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
        self._departures.open()
        for network in self._networks.values():
            for endpoint in network.endpoints.values():
                self._leases.retake(network, endpoint)
                if endpoint.veth:
                    self._departures.expect(endpoint.veth)
        await self._enable_forwarding()
        await self.replace_rules()
        self.host.pool.open()

    async def _enable_forwarding(self) -> None:
        versions = {pool.subnet.version for network in self._networks.values() for pool in network.pools}
        if versions <= self._forwarding:
            return
        for name, value in (await self.run(self.host.enable_forwarding, 6 in versions)).items():
            self._db.execute("INSERT OR IGNORE INTO host_setting VALUES (?,?)", name, value)
        self._forwarding |= versions

    async def replace_rules(self) -> None:
        """Write the whole firewall anew: after a network came or went."""
        await self._enable_forwarding()
        networks = [network.filtered() for network in self._networks.values() if network.driver == "bridge"]
        await self.run(self.host.replace_rules, networks, self._all_forwards())

    def _all_forwards(self) -> list[Forward]:
        live = [forward for sandbox in self._sandboxes.values() for forward in sandbox.forwards]
        return live + [forward for id in self._unverified() for forward in self._stored_forwards(id)]

    def _unverified(self) -> set[str]:
        return {
            endpoint.container_id
            for network in self._networks.values()
            for endpoint in network.endpoints.values()
            if not endpoint.verified
        }

    def _stored_forwards(self, container_id: str) -> list[Forward]:
        endpoints = self._stored_endpoints(container_id)
        gateway = self._gateway_endpoint(endpoints.values())
        return forwards_of(published(load_sandbox_record(self._db, container_id)), gateway) if gateway else []

    def _stored_endpoints(self, container_id: str) -> dict[str, Endpoint]:
        return {
            network.name: network.endpoints[container_id]
            for network in self._networks.values()
            if container_id in network.endpoints
        }

    async def close(self) -> None:
        """Let go of descriptors and threads; containers keep their networks."""
        self._departures.close()
        await self.run(self.host.close)
        for sandbox in self._sandboxes.values():
            sandbox.stop_serving()
            sandbox.close()
        self._sandboxes.clear()
        self._executor.shutdown()

    async def reset(self) -> None:
        """Remove everything of the instance from the host."""
        settings = {
            row["name"]: row["value"] for row in self._db.rows("SELECT name, value FROM host_setting")
        }
        for container_id in list(self._sandboxes):
            await self.release(container_id)
        await self.run(self.host.reset, settings)

    # Attach and release.

    async def attach(self, member: Member) -> Sandbox:
        """See Networks.attach."""
        if member.id in self._sandboxes:
            await self.release(member.id)
        mode = member.host.network_mode
        sandbox = self._sandboxes[member.id] = Sandbox(member.id, mode)
        try:
            if mode.startswith(CONTAINER_MODE):
                self._share(sandbox, member, mode.removeprefix(CONTAINER_MODE))
            else:
                await self._connect_all(sandbox, member)
        except BaseException:
            await self.release(member.id)
            raise
        for endpoint in sandbox.endpoints.values():
            self._announce("connect", endpoint)
        return sandbox

    def _share(self, sandbox: Sandbox, member: Member, reference: str) -> None:
        other = self._find_container(reference)
        if not other.pid:
            raise Conflict(f"cannot join network of a non running container: {other.id}; start it first")
        sandbox.share_with = other.id
        sandbox.netns_fd = open_network_of(other.pid)

    async def _connect_all(self, sandbox: Sandbox, member: Member) -> None:
        wishes = wishes_of(member, self._find_network)
        for number, (network, config) in enumerate(wishes):
            sandbox.endpoints[network.name] = await self._new_endpoint(network, member, config, number)
        gateway = self._gateway_endpoint(sandbox.endpoints.values())
        if gateway is not None:
            self._reserve_ports(sandbox, member, gateway)
        self._compose_files(sandbox, member)
        with self._db.transaction():
            for endpoint in sandbox.endpoints.values():
                endpoint.save(self._db)
            sandbox.save(self._db)
        if sandbox.mode != HOST:
            await self._make(sandbox, member, gateway)

    async def _make(self, sandbox: Sandbox, member: Member, gateway: Endpoint | None) -> None:
        plugs = [
            (
                self._networks[endpoint.network_id].bridge_index,
                partial(self._plug, endpoint, endpoint is gateway),
            )
            for endpoint in sandbox.endpoints.values()
            if endpoint.veth
        ]

        needs_dns = self._needs_dns(sandbox)

        def make() -> None:
            # Kept at once: a cancelled caller must still find what was made.
            sandbox.netns_fd = self.host.new_sandbox(plugs)
            if needs_dns:
                sandbox.dns_sockets = open_dns_sockets(sandbox.netns_fd)
            self.host.publish(sandbox.forwards)

        await self._run_kernel_work(make)
        self._start_relays(sandbox)
        if sandbox.dns_sockets is not None:
            self._start_dns(sandbox, member)
            sandbox.save(self._db)

    async def _run_kernel_work(self, work: Callable[[], None]) -> None:
        try:
            await self.run(work)
        except OSError as error:
            raise SystemFailure(f"failed to set up container networking: {error}") from error

    async def _new_endpoint(
        self, network: Network, member: Member, config: EndpointConfig, number: int
    ) -> Endpoint:
        endpoint = Endpoint(secrets.token_hex(32), network.id, member.id, member.name, config)
        if network.driver == "bridge":
            await self._leases.take(network, config, endpoint)
            endpoint.interface = f"eth{number}"
            endpoint.veth = new_veth_name()
            self._departures.expect(endpoint.veth)
        if network.user_defined:
            endpoint.dns_names = dns_names(member, config)
        network.endpoints[member.id] = endpoint
        return endpoint

    def _plug(self, endpoint: Endpoint, is_gateway: bool, index: int) -> Plug:
        network = self._networks[endpoint.network_id]
        return Plug(
            interface=endpoint.interface,
            index=index,
            veth=endpoint.veth,
            mac=endpoint.mac,
            addresses=tuple(
                (pool.subnet[0].__class__(text), pool.subnet.prefixlen)
                for text, pool in ((endpoint.ipv4, network.pool(4)), (endpoint.ipv6, network.pool(6)))
                if text and pool is not None
            ),
            gateways=_gateways(network) if is_gateway else (),
            mtu=network.definition.mtu,
            isolated=not network.definition.switched(OPTION_ICC),
            published=is_gateway and bool(self._sandboxes[endpoint.container_id].forwards),
        )

    def _gateway_endpoint(self, endpoints: Iterable[Endpoint]) -> Endpoint | None:
        """The endpoint that leads outside: highest priority, then the network's name."""
        candidates = [
            endpoint
            for endpoint in endpoints
            if endpoint.addresses and not self._networks[endpoint.network_id].definition.internal
        ]
        return min(
            candidates,
            key=lambda endpoint: (-endpoint.config.gw_priority, self._networks[endpoint.network_id].name),
            default=None,
        )

    def _reserve_ports(self, sandbox: Sandbox, member: Member, gateway: Endpoint) -> None:
        network = self._networks[gateway.network_id]
        requests = port_requests(
            member.config,
            member.host,
            network.definition.options.get(OPTION_HOST_IP, "").replace("0.0.0.0", ""),
            self._ipv6_host,
        )
        failed = f"driver failed programming external connectivity on endpoint {member.name} ({gateway.id}): "
        try:
            sandbox.reservation = self._ports.reserve(requests, member.name)
        except PortTaken as error:
            raise SystemFailure(f"{failed}{error}") from error
        except OSError as error:
            raise SystemFailure(f"{failed}{error.strerror}") from error
        sandbox.forwards = forwards_of(sandbox.reservation.ports, gateway)

    def _compose_files(self, sandbox: Sandbox, member: Member) -> None:
        """Decide what the container's hosts and resolv.conf say."""
        networks = self._networks_of(sandbox)
        default = self._find_network(BRIDGE)
        links: list[tuple[str, str]] = []
        if default in networks:
            links = network_files.legacy_links(member, self._find_container, default.endpoints.get)
        gateway = default.gateway(4)
        sandbox.hosts = network_files.hosts_text(
            member, sandbox.endpoints.values(), links, str(gateway) if gateway else ""
        )
        config = network_files.resolver_config(member, networks, self._needs_dns(sandbox))
        sandbox.resolv_conf = network_files.resolv_conf_file(config)

    def _networks_of(self, sandbox: Sandbox) -> list[Network]:
        return [self._networks[endpoint.network_id] for endpoint in sandbox.endpoints.values()]

    def _needs_dns(self, sandbox: Sandbox) -> bool:
        return any(network.user_defined for network in self._networks_of(sandbox))

    def _start_dns(self, sandbox: Sandbox, member: Member) -> None:
        """Begin to answer on sockets that were opened."""
        if sandbox.dns_sockets is None or sandbox.dns is not None:
            return
        servers = network_files.upstream_servers(member)
        names = ContainerNames(sandbox, self._networks, servers, self._container_id_of)
        sandbox.dns = DnsServer(sandbox.dns_sockets, names)

    def _start_relays(self, sandbox: Sandbox) -> None:
        """Serve the IPv6 sockets that hold published ports."""
        for port, held in sandbox.reservation.sockets.items():
            if port.host_address.version == 6 and port.protocol != "sctp":
                sandbox.relays.append(Relay(held, partial(self._relay_target, sandbox, port.container_port)))

    def _relay_target(self, sandbox: Sandbox, container_port: int) -> tuple[str, int] | None:
        gateway = self._gateway_endpoint(sandbox.endpoints.values())
        return (gateway.ipv4 or gateway.ipv6, container_port) if gateway is not None else None

    def _container_id_of(self, reference: str) -> str | None:
        try:
            return self._find_container(reference).id
        except SeomError:
            return None

    async def release(self, container_id: str) -> None:
        """See Networks.release."""
        sandbox = self._sandboxes.pop(container_id, None)
        if sandbox is None:
            return
        with contextlib.suppress(OSError):
            await self.run(self.host.withdraw, sandbox.forwards)
        sandbox.stop_serving()
        self._ports.release(sandbox.reservation)
        delete_sandbox(self._db, container_id)
        for endpoint in sandbox.endpoints.values():
            network = self._networks[endpoint.network_id]
            network.endpoints.pop(container_id, None)
            self._leases.free(network, endpoint)
            self._announce("disconnect", endpoint)
        await self.run(sandbox.close)

    def _announce(self, action: str, endpoint: Endpoint) -> None:
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

    # After a restart of the daemon.

    async def recover(self, member: Member) -> Sandbox:
        """See Networks.recover."""
        mode = member.host.network_mode
        sandbox = Sandbox(member.id, mode)
        sandbox.endpoints = self._stored_endpoints(member.id)
        for endpoint in sandbox.endpoints.values():
            endpoint.verified = True
        gateway = self._gateway_endpoint(sandbox.endpoints.values())
        ports = published(load_sandbox_record(self._db, member.id))
        sandbox.reservation = self._ports.retake(ports, member.name)
        if gateway is not None:
            sandbox.forwards = forwards_of(ports, gateway)
        self._sandboxes[member.id] = sandbox
        self._start_relays(sandbox)
        if mode != HOST:
            await self._reopen(sandbox, member)
        return sandbox

    async def _reopen(self, sandbox: Sandbox, member: Member) -> None:
        needs_dns = self._needs_dns(sandbox)
        dns_port = load_sandbox_record(self._db, member.id).dns_port

        def reopen() -> None:
            sandbox.netns_fd = open_network_of(member.pid)
            if needs_dns:
                sandbox.dns_sockets = open_dns_sockets(sandbox.netns_fd, dns_port)

        try:
            await self.run(reopen)
        except OSError:
            # The container has just ended, or its namespace refuses rules: its exit will be noticed,
            # and a container without name resolution is better than none.
            return
        self._start_dns(sandbox, member)

    async def finish_recovery(self) -> None:
        """See Networks.finish_recovery."""
        stored = {row["container_id"] for row in self._db.rows("SELECT container_id FROM sandbox")}
        for container_id in (stored | self._unverified()) - set(self._sandboxes):
            for network in self._networks.values():
                endpoint = network.endpoints.pop(container_id, None)
                if endpoint is not None:
                    self._leases.free(network, endpoint)
            delete_sandbox(self._db, container_id)
        self._departures.compare()
        await self.replace_rules()

    # What is shown.

    def netns_fd(self, container_id: str) -> int | None:
        """See Networks.netns_fd."""
        sandbox = self._sandboxes.get(container_id)
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
        sandbox = self._sandboxes.get(member.id)
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
        sandbox = self._sandboxes.get(member.id)
        if sandbox is None:
            return []
        return port_summaries(sandbox.reservation.ports, exposed_ports(member.config, member.host))

    # Changes while a container runs.

    async def connect(self, network: Network, member: Member, config: EndpointConfig) -> None:
        """See Networks.connect."""
        mode = member.host.network_mode
        if mode.startswith(CONTAINER_MODE) or HOST in (mode, network.name):
            raise Forbidden(SHARED)
        if NONE in (mode_network(mode), network.name) and member.endpoints:
            raise Forbidden(ONLY_NONE)
        if member.id in network.endpoints:
            raise Forbidden(f"endpoint with name {member.name} already exists in network {network.name}")
        check_wish(network, config)
        sandbox = self._sandboxes.get(member.id)
        if sandbox is not None and member.pid:
            await self._connect_running(sandbox, network, member, config)
        self._drop_wish(network, member)
        member.endpoints[network.name] = config

    async def _connect_running(
        self, sandbox: Sandbox, network: Network, member: Member, config: EndpointConfig
    ) -> None:
        used = {endpoint.interface for endpoint in sandbox.endpoints.values()}
        number = next(number for number in range(len(used) + 1) if f"eth{number}" not in used)
        endpoint = await self._new_endpoint(network, member, config, number)
        sandbox.endpoints[network.name] = endpoint
        try:
            endpoint.save(self._db)
            plug = partial(self._plug, endpoint, False)
            needs_dns = sandbox.dns is None and self._needs_dns(sandbox)

            def plug_in() -> None:
                assert sandbox.netns_fd is not None
                self.host.add_plug(network.bridge_index, sandbox.netns_fd, plug)
                if needs_dns:
                    sandbox.dns_sockets = open_dns_sockets(sandbox.netns_fd)

            await self._run_kernel_work(plug_in)
            self._start_dns(sandbox, member)
            await self._follow_gateway(sandbox, member)
        except BaseException:
            await self._remove_endpoint(sandbox, endpoint)
            raise
        self._announce("connect", endpoint)

    async def disconnect(self, network: Network, member: Member) -> None:
        """See Networks.disconnect."""
        if network.name == HOST:
            raise Forbidden("container cannot be disconnected from host network or connected to host network")
        sandbox = self._sandboxes.get(member.id)
        endpoint = sandbox.endpoints.get(network.name) if sandbox is not None else None
        if not self._drop_wish(network, member) and endpoint is None:
            raise Forbidden(f"container {member.id} is not connected to network {network.name}")
        if not member.endpoints:
            member.endpoints[NONE] = None
        if sandbox is not None and endpoint is not None:
            await self._remove_endpoint(sandbox, endpoint)
            await self._follow_gateway(sandbox, member)
            self._announce("disconnect", endpoint)

    def _drop_wish(self, network: Network, member: Member) -> bool:
        names = [name for name in member.endpoints if name in (network.name, network.id, network.id[:12])]
        for name in names:
            del member.endpoints[name]
        return bool(names)

    async def _remove_endpoint(self, sandbox: Sandbox, endpoint: Endpoint) -> None:
        network = self._networks[endpoint.network_id]
        sandbox.endpoints.pop(network.name, None)
        network.endpoints.pop(endpoint.container_id, None)
        endpoint.delete(self._db)
        if endpoint.veth and sandbox.netns_fd is not None:
            with contextlib.suppress(OSError):
                await self.run(self.host.unplug, sandbox.netns_fd, endpoint.interface)
        self._leases.free(network, endpoint)

    async def _follow_gateway(self, sandbox: Sandbox, member: Member) -> None:
        """Lead default routes and published ports through the endpoint that is the way outside now."""
        gateway = self._gateway_endpoint(sandbox.endpoints.values())
        if gateway is not None and not sandbox.reservation.ports:
            self._reserve_ports(sandbox, member, gateway)
            self._start_relays(sandbox)
        before, sandbox.forwards = sandbox.forwards, []
        if gateway is not None:
            sandbox.forwards = forwards_of(sandbox.reservation.ports, gateway)
        sandbox.save(self._db)

        def lead() -> None:
            if gateway is not None and sandbox.netns_fd is not None:
                network = self._networks[gateway.network_id]
                self.host.set_default_routes(sandbox.netns_fd, gateway.interface, _gateways(network))
            self.host.move(before, sandbox.forwards)

        await self._run_kernel_work(lead)
        self._compose_files(sandbox, member)
        directory = self._data_root / "containers" / member.id
        network_files.write_in_place(directory / "hosts", sandbox.hosts)
        network_files.write_in_place(directory / "resolv.conf", sandbox.resolv_conf)


def _gateways(network: Network) -> tuple[Address, ...]:
    return tuple(pool.gateway for pool in network.pools if pool.gateway is not None)


def _has_ipv6() -> bool:
    """Whether the host can bind IPv6 sockets."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
