"""What a container's embedded DNS server knows: the names on the container's own networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from seom.engine.network_files import split_link
from seom.engine.network_records import Endpoint, Network, Sandbox
from seom.network.addresses import Address


class ContainerNames:
    """The names that one container can resolve; see network.dns.Names."""

    def __init__(
        self,
        sandbox: Sandbox,
        networks: dict[str, Network],
        servers: Sequence[str],
        container_id_of: Callable[[str], str | None],
    ) -> None:
        self._sandbox = sandbox
        self._networks = networks
        self._servers = servers
        self._container_id_of = container_id_of

    def addresses(self, name: str) -> list[Address] | None:
        """Addresses of NAME or NAME.NETWORK, in all networks of the container."""
        found = [address for endpoint in self._called(name) for address in endpoint.addresses]
        return list(dict.fromkeys(found)) or None

    def name_of(self, address: Address) -> str | None:
        """NAME.NETWORK of a container with this address."""
        for network in self._own_networks():
            for endpoint in network.endpoints.values():
                if address in endpoint.addresses:
                    return f"{endpoint.container_name}.{network.name}"
        return None

    def upstream(self) -> Sequence[str]:
        """The configured servers, unless every network of the container is internal."""
        networks = [self._networks[endpoint.network_id] for endpoint in self._sandbox.endpoints.values()]
        return () if all(network.definition.internal for network in networks) else self._servers

    def _own_networks(self) -> Iterator[Network]:
        for endpoint in self._sandbox.endpoints.values():
            network = self._networks[endpoint.network_id]
            if network.user_defined:
                yield network

    def _called(self, name: str) -> Iterator[Endpoint]:
        for network in self._own_networks():
            bare = name.removesuffix(f".{network.name.lower()}")
            linked = self._linked(network, bare)
            for endpoint in network.endpoints.values():
                if endpoint.container_id == linked or bare in map(str.lower, endpoint.dns_names):
                    yield endpoint

    def _linked(self, network: Network, alias: str) -> str | None:
        """The container that this one calls by an alias of its own (--link NAME:ALIAS), by id."""
        own = network.endpoints.get(self._sandbox.container_id)
        for link in (own.config.links or []) if own else ():
            target, chosen = split_link(link)
            if chosen.lower() == alias:
                return self._container_id_of(target)
        return None
