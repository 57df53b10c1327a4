"""Which addresses and subnets are handed out."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network

import pytest

from seom.engine.network_definitions import choose_missing_pools, define_network
from seom.errors import InvalidParameter
from seom.network.addresses import AddressesExhausted, AddressPool, AddressTaken, mac_of
from seom.network.definition import CreateNetwork, Ipam, IpamPool, decide_pool, parse_subnet
from seom.network.subnets import SubnetsExhausted, choose_ipv4, choose_ipv6, pools


def test_the_lowest_free_address_is_taken_and_taken_again_once_free() -> None:
    pool = AddressPool(ip_network("10.0.0.0/29"), ip_address("10.0.0.1"))
    assert [str(pool.take()) for _ in range(3)] == ["10.0.0.2", "10.0.0.3", "10.0.0.4"]
    pool.free(ip_address("10.0.0.3"))
    assert [str(pool.take()) for _ in range(3)] == ["10.0.0.3", "10.0.0.5", "10.0.0.6"]
    with pytest.raises(AddressesExhausted):
        pool.take()


def test_a_range_and_auxiliary_addresses_are_respected() -> None:
    pool = AddressPool(
        ip_network("10.0.0.0/24"), ip_address("10.0.0.1"), ip_network("10.0.0.8/30"), [ip_address("10.0.0.9")]
    )
    assert [str(pool.take()) for _ in range(3)] == ["10.0.0.8", "10.0.0.10", "10.0.0.11"]
    with pytest.raises(AddressesExhausted):
        pool.take()
    pool.take_exactly(ip_address("10.0.0.200"))


@pytest.mark.parametrize("address", ["10.0.0.1", "10.0.0.9"])
def test_the_gateway_and_taken_addresses_are_refused(address: str) -> None:
    pool = AddressPool(ip_network("10.0.0.0/24"), ip_address("10.0.0.1"))
    pool.take_exactly(ip_address("10.0.0.9"))
    with pytest.raises(AddressTaken):
        pool.take_exactly(ip_address(address))


def test_an_address_outside_of_the_subnet_is_an_error() -> None:
    with pytest.raises(ValueError, match="not in"):
        AddressPool(ip_network("10.0.0.0/24"), None).take_exactly(ip_address("10.0.1.1"))


def test_ipv6_addresses_are_counted_up_from_the_gateway() -> None:
    pool = AddressPool(ip_network("fd00::/64"), ip_address("fd00::1"))
    assert [str(pool.take()) for _ in range(2)] == ["fd00::2", "fd00::3"]


def test_the_mac_address_is_dockers() -> None:
    assert mac_of(IPv4Address("172.17.0.2")) == "02:42:ac:11:00:02"


def test_subnets_are_chosen_beside_those_in_use() -> None:
    assert choose_ipv4([]) == IPv4Network("172.17.0.0/16")
    used = [IPv4Network("172.16.0.0/12"), IPv4Network("192.168.0.0/24")]
    assert choose_ipv4(used) == IPv4Network("192.168.16.0/20")
    with pytest.raises(SubnetsExhausted):
        choose_ipv4(pools())


def test_ipv6_subnets_are_unique_local_and_depend_on_the_network() -> None:
    first, second = choose_ipv6("a", []), choose_ipv6("b", [])
    assert first != second and first.prefixlen == 64
    assert first.subnet_of(IPv6Network("fd00::/8"))
    assert choose_ipv6("a", [first]) != first


def test_the_first_address_becomes_the_gateway() -> None:
    assert decide_pool(IpamPool("10.1.0.0/16")).gateway == "10.1.0.1"
    assert decide_pool(IpamPool("10.1.0.0/16", gateway="10.1.0.9")).gateway == "10.1.0.9"
    assert decide_pool(IpamPool("10.1.0.0/16", ip_range="10.1.4.0/24")).gateway == "10.1.4.0"
    assert decide_pool(IpamPool("10.1.0.0/16", ip_range="10.1.0.0/24")).gateway == "10.1.0.1"


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        (IpamPool("10.1.0.5/16"), "it should be 10.1.0.0/16"),
        (IpamPool("rubbish"), "invalid CIDR block notation"),
        (IpamPool("10.1.0.0/16", ip_range="10.2.0.0/24"), "doesn't contain ip-range"),
        (IpamPool("10.1.0.0/16", gateway="10.2.0.1"), "doesn't contain this address"),
        (IpamPool("10.1.0.0/16", auxiliary_addresses={"host": "10.2.0.1"}), "auxiliary address host"),
        (IpamPool("10.1.0.0/16", gateway="nonsense"), "does not appear to be"),
    ],
)
def test_contradictory_subnets_are_refused(pool: IpamPool, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        define_network(CreateNetwork("blue", ipam=Ipam(config=[pool])))


def test_subnets_of_either_version_are_read() -> None:
    assert parse_subnet("fd00::/64") == IPv6Network("fd00::/64")


def test_what_a_request_leaves_open_is_chosen() -> None:
    definition = define_network(CreateNetwork("blue", enable_ipv6=True))
    four, six = choose_missing_pools(definition, "id", [])
    assert (four.subnet, four.gateway) == ("172.17.0.0/16", "172.17.0.1")
    assert six.gateway.endswith("::1")


@pytest.mark.parametrize("name", ["", "  ", "a b", "/x", "-x", "ä"])
def test_impossible_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidParameter):
        define_network(CreateNetwork(name))


@pytest.mark.parametrize(
    "options",
    [
        {"com.docker.network.driver.mtu": "many"},
        {"com.docker.network.driver.mtu": "1"},
        {"com.docker.network.bridge.enable_icc": "maybe"},
        {"com.docker.network.bridge.name": "far-too-long-for-an-interface"},
        {"com.docker.network.bridge.name": "a/b"},
    ],
)
def test_impossible_options_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(InvalidParameter):
        define_network(CreateNetwork("blue", options=options))
