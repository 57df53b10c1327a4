"""Addresses of endpoints: taken when one is made, free again once its interface is gone."""

from __future__ import annotations

import asyncio
import secrets
from ipaddress import IPv4Address, ip_address

from seom.containers.config import EndpointConfig, IpamConfig
from seom.engine.network_records import Endpoint, Network
from seom.errors import Forbidden, InvalidParameter, Unavailable
from seom.network.addresses import Address, AddressesExhausted, AddressPool, AddressTaken, mac_of
from seom.network.departures import Departures

_DEPARTURE_S = 5.0


class AddressLeases:
    """Which endpoint has which address, on the event loop's thread."""

    def __init__(self, departures: Departures) -> None:
        self._departures = departures
        self._leaving: dict[tuple[str, Address], asyncio.Event] = {}

    async def take(self, network: Network, config: EndpointConfig, endpoint: Endpoint) -> None:
        """Give an endpoint its addresses and MAC address, those wished for or free ones.

        Raises Unavailable when none is left, Forbidden when one is in use, InvalidParameter for one
        outside of the subnet; then none is taken.
        """
        wishes = config.ipam_config or IpamConfig()
        try:
            endpoint.ipv4 = await self._take(network, 4, wishes.ipv4_address)
            endpoint.ipv6 = await self._take(network, 6, wishes.ipv6_address)
        except BaseException:
            self._give_back(network, endpoint)
            raise
        endpoint.mac = config.mac_address or _mac_for(endpoint)

    def retake(self, network: Network, endpoint: Endpoint) -> None:
        """Mark the addresses of a stored endpoint as taken."""
        for address in endpoint.addresses:
            pool = network.pool(address.version)
            if pool is not None and address in pool.subnet:
                try:
                    pool.take_exactly(address)
                except AddressTaken:
                    continue

    def free(self, network: Network, endpoint: Endpoint) -> None:
        """Free the addresses as soon as the endpoint's interface has left the kernel."""
        if not endpoint.veth:
            self._give_back(network, endpoint)
            return
        keys = [(network.id, address) for address in endpoint.addresses]
        for key in keys:
            self._leaving[key] = asyncio.Event()

        def gone() -> None:
            self._give_back(network, endpoint)
            for key in keys:
                self._leaving.pop(key).set()

        self._departures.when_gone(endpoint.veth, gone)

    async def settled(self) -> None:
        """Return when no released endpoint's interface is left in the kernel."""
        while self._leaving:
            await next(iter(self._leaving.values())).wait()

    async def _take(self, network: Network, version: int, wish: str) -> str:
        pool = network.pool(version)
        if pool is None:
            if wish:
                raise InvalidParameter(
                    f"invalid address {wish}: network {network.name} has no IPv{version} subnet; "
                    "create the network with one"
                )
            return ""
        if wish:
            return await self._take_exactly(network, pool, wish)
        try:
            return str(pool.take())
        except AddressesExhausted as error:
            raise Unavailable(f"{error}; stop containers, or use a network with a larger subnet") from error

    async def _take_exactly(self, network: Network, pool: AddressPool, wish: str) -> str:
        try:
            address = ip_address(wish)
        except ValueError as error:
            raise InvalidParameter(f"invalid IP address: {wish}") from error
        leaving = self._leaving.get((network.id, address))
        if leaving is not None:
            # The container that had it has just ended (a restart, say): its interface goes any moment.
            try:
                async with asyncio.timeout(_DEPARTURE_S):
                    await leaving.wait()
            except TimeoutError:
                pass
        try:
            pool.take_exactly(address)
        except AddressTaken as error:
            raise Forbidden(f"Address already in use: {wish} on network {network.name}") from error
        except ValueError as error:
            raise InvalidParameter(
                f"invalid endpoint settings: no configured subnet contains IP address {wish}"
            ) from error
        return str(address)

    def _give_back(self, network: Network, endpoint: Endpoint) -> None:
        for address in endpoint.addresses:
            pool = network.pool(address.version)
            if pool is not None:
                pool.free(address)


def _mac_for(endpoint: Endpoint) -> str:
    if endpoint.ipv4:
        return mac_of(IPv4Address(endpoint.ipv4))
    return "02:42:" + secrets.token_bytes(4).hex(":")
