"""Port options as Docker's clients write them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from seom.containers.config import Config, EndpointConfig, HostConfig, PortBinding
from seom.engine.network_ports import exposed_ports, port_requests
from seom.engine.network_settings import HostPort, port_summaries, ports_map
from seom.engine.network_wishes import check_request
from seom.errors import InvalidParameter
from seom.linux.nft_elements import MapElement
from seom.network.firewall import FilteredNetwork, Forward, element_of, replace_table
from seom.network.ports import PortRequest, PublishedPort, parse_port_range

EVERY = (IPv4Address("0.0.0.0"), IPv6Address("::"))


def bindings(name: str, *wanted: tuple[str, str]) -> HostConfig:
    return HostConfig(port_bindings={name: [PortBinding(*each) for each in wanted]})


def test_bindings_become_requests() -> None:
    host = bindings("80/tcp", ("", "8080"), ("127.0.0.1", "9000-9010"), ("::1", ""))
    assert port_requests(Config(), host, "", ipv6=True) == [
        PortRequest(80, "tcp", EVERY, 8080, 8080),
        PortRequest(80, "tcp", (IPv4Address("127.0.0.1"),), 9000, 9010),
        PortRequest(80, "tcp", (IPv6Address("::1"),), 0, 0),
    ]


def test_publishing_all_takes_exposed_ports_that_are_not_bound() -> None:
    host = bindings("80/tcp", ("", "8080"))
    host.publish_all_ports = True
    config = Config(exposed_ports={"80/tcp": {}, "53/udp": {}, "90-91/tcp": {}})
    requests = port_requests(config, host, "", ipv6=False)
    assert [(request.container_port, request.protocol) for request in requests] == [
        (80, "tcp"),
        (53, "udp"),
        (90, "tcp"),
        (91, "tcp"),
    ]
    assert exposed_ports(config, host) == ["80/tcp", "53/udp", "90-91/tcp"]


@pytest.mark.parametrize(
    ("name", "ip", "port"),
    [
        ("80/xyz", "", ""),
        ("0/tcp", "", ""),
        ("70000", "", ""),
        ("http", "", ""),
        ("80", "", "x"),
        ("80", "", "9-8"),
        ("80", "", "70000"),
        ("80", "", "-1"),
        ("80", "999.1.1.1", ""),
    ],
)
def test_unreadable_ports_are_refused(name: str, ip: str, port: str) -> None:
    with pytest.raises(InvalidParameter):
        port_requests(Config(), bindings(name, (ip, port)), "", ipv6=False)


def test_port_ranges_are_read() -> None:
    assert [parse_port_range(text) for text in ("", "80", "80-82")] == [(0, 0), (80, 80), (80, 82)]


def test_ports_are_shown_as_docker_shows_them() -> None:
    ports = [PublishedPort(80, "tcp", address, 8080) for address in EVERY]
    assert ports_map(ports, ["80/tcp", "443/tcp"]) == {
        "80/tcp": [HostPort("0.0.0.0", "8080"), HostPort("::", "8080")],
        "443/tcp": None,
    }
    assert [(s.ip, s.private_port, s.public_port) for s in port_summaries(ports, ["80/tcp", "443/tcp"])] == [
        ("0.0.0.0", 80, 8080),
        ("::", 80, 8080),
        ("", 443, 0),
    ]


def test_a_published_port_is_one_element_of_one_map() -> None:
    every = Forward(IPv4Address("0.0.0.0"), 8080, "tcp", IPv4Address("172.17.0.2"), 80)
    one = Forward(ip_address("192.0.2.1"), 53, "udp", IPv4Address("172.17.0.2"), 53)
    value = bytes([172, 17, 0, 2, 0, 80, 0, 0])
    assert element_of(every) == MapElement("any4", bytes([6, 0, 0, 0, 0x1F, 0x90, 0, 0]), value)
    assert element_of(one).map == "host4"
    assert element_of(one).key == bytes([192, 0, 2, 1, 17, 0, 0, 0, 0, 53, 0, 0])


def test_the_whole_table_is_replaced_in_one_go() -> None:
    text = replace_table("seom-abc123", [FilteredNetwork("seom0", (), internal=True, icc=False)], [])
    assert text.splitlines()[:3] == [
        "add table inet seom-abc123",
        "delete table inet seom-abc123",
        "table inet seom-abc123 {",
    ]


def test_a_create_request_is_completed_with_the_network_of_its_mode() -> None:
    endpoints: dict[str, EndpointConfig | None] = {"default": EndpointConfig(gw_priority=1), "blue": None}
    check_request(Config(), HostConfig(network_mode="bridge"), endpoints)
    assert list(endpoints) == ["bridge", "blue"]
    assert endpoints["bridge"] == EndpointConfig(gw_priority=1)


@pytest.mark.parametrize(
    ("host", "endpoints", "message"),
    [
        (HostConfig(network_mode="container:x"), {"blue": None}, "cannot be connected to any other network"),
        (HostConfig(network_mode="host"), {"blue": None}, "cannot be connected to any other network"),
        (HostConfig(network_mode="none"), {"blue": None}, "private"),
        (HostConfig(network_mode="container:x", publish_all_ports=True), {}, "port publishing"),
        (HostConfig(network_mode="container:x", dns=["1.1.1.1"]), {}, "dns and the network mode"),
        (HostConfig(network_mode="host", links=["a:b"]), {}, "can't be used with links"),
        (HostConfig(dns=["nonsense"]), {}, "invalid DNS server"),
        (HostConfig(extra_hosts=["a:b"]), {}, "invalid IP address in add-host"),
    ],
)
def test_conflicting_options_are_refused(
    host: HostConfig, endpoints: dict[str, EndpointConfig | None], message: str
) -> None:
    with pytest.raises(InvalidParameter, match=message):
        check_request(Config(), host, endpoints)
