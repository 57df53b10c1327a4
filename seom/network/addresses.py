"""The addresses of one subnet: which are taken, and the lowest free one."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Subnet = IPv4Network | IPv6Network


class AddressesExhausted(Exception):
    """No free address is left in the range."""


class AddressTaken(Exception):
    """The address asked for is in use."""


class AddressPool:
    """Hands out the lowest free address of a range within a subnet.

    The network's own address, IPv4's broadcast address, the gateway and auxiliary addresses are
    never handed out.
    """

    def __init__(
        self,
        subnet: Subnet,
        gateway: Address | None,
        ip_range: Subnet | None = None,
        auxiliary: Iterable[Address] = (),
    ) -> None:
        self.subnet = subnet
        self.gateway = gateway
        first, last = (int(part) for part in (subnet.network_address, subnet.broadcast_address))
        chosen = ip_range or subnet
        low, high = (int(part) for part in (chosen.network_address, chosen.broadcast_address))
        self._low = max(low, first + 1)
        self._high = min(high, last - 1 if subnet.version == 4 else last)
        self._reserved = {int(address) for address in (*auxiliary, *([gateway] if gateway else []))}
        self._taken: set[int] = set()
        self._next = self._low

    @property
    def taken(self) -> int:
        """How many addresses are in use."""
        return len(self._taken)

    def peek(self) -> Address:
        """The lowest free address, which take() would return; raises AddressesExhausted."""
        for number in range(self._next, self._high + 1):
            if number not in self._taken and number not in self._reserved:
                return self._address(number)
        raise AddressesExhausted(
            f"no available IPv{self.subnet.version} addresses on this network's address pools"
        )

    def take(self) -> Address:
        """Take the lowest free address; raises AddressesExhausted."""
        address = self.peek()
        self._taken.add(int(address))
        self._next = int(address) + 1
        return address

    def take_exactly(self, address: Address) -> None:
        """Take one address of the subnet; raises AddressTaken, or ValueError outside of it."""
        number = int(address)
        if address not in self.subnet:
            raise ValueError(f"{address} is not in {self.subnet}")
        if number in self._taken or number in self._reserved:
            raise AddressTaken("Address already in use")
        self._taken.add(number)

    def free(self, address: Address) -> None:
        """Give an address back; unknown ones are ignored."""
        number = int(address)
        self._taken.discard(number)
        if self._low <= number < self._next:
            self._next = number

    def _address(self, number: int) -> Address:
        return IPv4Address(number) if self.subnet.version == 4 else IPv6Address(number)


def mac_of(address: IPv4Address) -> str:
    """The MAC address Docker derives from an IPv4 address: 02:42 and its four bytes."""
    return "02:42:" + address.packed.hex(":")


def parse_address(text: str) -> Address | None:
    """An address, or None for an empty text; raises ValueError."""
    return ip_address(text) if text else None
