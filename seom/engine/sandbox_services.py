"""What the daemon serves a sandbox: its files, its names, and relays for its published IPv6 ports."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from seom.engine import network_files
from seom.engine.container_names import ContainerNames
from seom.engine.network_records import Member, Network, Sandbox, gateway_endpoint
from seom.errors import SeomError
from seom.network.definition import BRIDGE, HOST
from seom.network.relay import Relay


class SandboxServices:
    """Composes files and starts servers, on the event loop's thread; a sandbox stops its own."""

    def __init__(
        self,
        data_root: Path,
        networks: dict[str, Network],
        find_network: Callable[[str], Network],
        find_container: Callable[[str], Member],
    ) -> None:
        self._data_root = data_root
        self._networks = networks
        self._find_network = find_network
        self._find_container = find_container

    def compose_files(self, sandbox: Sandbox, member: Member) -> None:
        """Decide what the container's hosts and resolv.conf say; raises InvalidParameter."""
        networks = self._networks_of(sandbox)
        default = self._find_network(BRIDGE)
        if sandbox.mode == HOST:
            sandbox.hosts = network_files.host_hosts_text(member)
            sandbox.resolv_conf = network_files.host_resolv_conf_text(member)
            return
        links: list[tuple[str, str]] = []
        if default in networks:
            links = network_files.legacy_links(member, self._find_container, default.endpoints.get)
        gateway = default.gateway(4)
        sandbox.hosts = network_files.hosts_text(
            member, sandbox.endpoints.values(), links, str(gateway) if gateway else ""
        )
        config = network_files.resolver_config(member, networks, self.needs_dns(sandbox, member))
        sandbox.resolv_conf = network_files.resolv_conf_file(config)

    def rewrite_files(self, sandbox: Sandbox, member: Member) -> None:
        """Compose the files anew and change those that a running container has mounted."""
        self.compose_files(sandbox, member)
        directory = self._data_root / "containers" / member.id
        network_files.write_in_place(directory / "hosts", sandbox.hosts)
        network_files.write_in_place(directory / "resolv.conf", sandbox.resolv_conf)

    def needs_dns(self, sandbox: Sandbox, member: Member) -> bool:
        """Whether the embedded server resolves names for it.

        On any user-defined network, and on the default bridge when the host's servers are all on its
        loopback, where a container cannot reach them.
        """
        networks = self._networks_of(sandbox)
        if any(network.user_defined for network in networks):
            return True
        on_bridge = any(network.driver == "bridge" for network in networks)
        return on_bridge and not member.host.dns and network_files.only_local_resolvers()

    def start(self, sandbox: Sandbox, member: Member) -> None:
        """Serve what is not served yet: DNS sockets that are open, IPv6 sockets that hold ports."""
        if sandbox.dns_sockets is not None and sandbox.dns is None:
            # Imported for the first user-defined network: 3 MB that other daemons need not have.
            from seom.network.dns import DnsServer

            servers = network_files.upstream_servers(member)
            names = ContainerNames(sandbox, self._networks, servers, self._container_id_of)
            sandbox.dns = DnsServer(sandbox.dns_sockets, names)
        if sandbox.relays:
            return
        for port, held in sandbox.reservation.sockets.items():
            if port.host_address.version == 6 and port.protocol != "sctp":
                sandbox.relays.append(Relay(held, partial(self._relay_target, sandbox, port.container_port)))

    def _networks_of(self, sandbox: Sandbox) -> list[Network]:
        return [self._networks[endpoint.network_id] for endpoint in sandbox.endpoints.values()]

    def _relay_target(self, sandbox: Sandbox, container_port: int) -> tuple[str, int] | None:
        gateway = gateway_endpoint(sandbox.endpoints.values(), self._networks)
        return (gateway.ipv4 or gateway.ipv6, container_port) if gateway is not None else None

    def _container_id_of(self, reference: str) -> str | None:
        try:
            return self._find_container(reference).id
        except SeomError:
            return None
