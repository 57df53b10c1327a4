"""The files that tell a container names and resolvers."""

from __future__ import annotations

import pytest

from seom.containers.config import Config, EndpointConfig, HostConfig
from seom.engine.network_files import extra_hosts, hosts_text, split_link
from seom.engine.network_records import Endpoint, Member
from seom.errors import InvalidParameter
from seom.network.files import (
    ResolverConfig,
    merge_choices,
    parse_resolv_conf,
    reachable_from_containers,
    resolv_conf_file,
)


def member(config: Config | None = None, **host: object) -> Member:
    return Member("0123456789abcdef" * 4, "web", config or Config(), HostConfig(**host), {})  # type: ignore[arg-type]


def test_a_resolv_conf_is_read_and_written() -> None:
    servers = "# comment\nnameserver 10.0.0.1\nnameserver ::1\n"
    text = f"{servers}domain old\nsearch a.example b.example\noptions ndots:2\n"
    config = parse_resolv_conf(text)
    assert config == ResolverConfig(["10.0.0.1", "::1"], ["a.example", "b.example"], ["ndots:2"])
    assert parse_resolv_conf(resolv_conf_file(config)) == config


def test_resolvers_on_the_hosts_loopback_are_left_out() -> None:
    servers = ["127.0.0.53", "10.0.0.1", "::1", "2001:db8::53", "fe80::1%eth0", "rubbish"]
    assert reachable_from_containers(servers) == ["10.0.0.1"]
    assert reachable_from_containers(servers, ipv6=True) == ["10.0.0.1", "2001:db8::53", "fe80::1%eth0"]


def test_what_the_user_gives_replaces_the_hosts_part() -> None:
    base = ResolverConfig(["10.0.0.1"], ["example"], ["edns0"])
    assert merge_choices(base, ["9.9.9.9"], [], []) == ResolverConfig(["9.9.9.9"], ["example"], ["edns0"])
    assert merge_choices(base, [], ["."], ["ndots:1"]) == ResolverConfig(["10.0.0.1"], [], ["ndots:1"])


def test_the_hosts_file_names_the_container_and_what_was_added() -> None:
    endpoint = Endpoint("e", "n", "c", "web", EndpointConfig(), ipv4="172.17.0.2", ipv6="fd00::2")
    wanted = member(Config(hostname="www", domainname="example.org"), extra_hosts=["db:10.0.0.9"])
    lines = hosts_text(wanted, [endpoint], [("172.17.0.3", "store")], "").splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert lines[-4:] == [
        "10.0.0.9\tdb",
        "172.17.0.3\tstore",
        "172.17.0.2\twww.example.org www",
        "fd00::2\twww.example.org www",
    ]


def test_added_hosts_take_every_notation() -> None:
    added = extra_hosts(
        member(extra_hosts=["a:10.0.0.1", "b=10.0.0.2", "c:[::1]", "d:::1", "e:host-gateway"]), "172.17.0.1"
    )
    assert added == [("10.0.0.1", "a"), ("10.0.0.2", "b"), ("::1", "c"), ("::1", "d"), ("172.17.0.1", "e")]


def test_an_added_host_without_an_address_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="invalid IP address in add-host"):
        extra_hosts(member(extra_hosts=["a:nonsense"]), "")


@pytest.mark.parametrize("link", ["db:store", "/db:store", "/db:/web/store"])
def test_links_are_read_as_given_and_as_shown(link: str) -> None:
    assert split_link(link) == ("db", "store")
    assert split_link("db") == ("db", "db")
