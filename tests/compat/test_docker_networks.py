"""docker network: create, connect, inspect, filters, prune, and what containers see of it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.daemon import PrivateDaemon
from tests.harness.docker_cli import DockerCli
from tests.harness.http_client import ApiClient

SLEEP = ("busybox", "sleep", "1000")


@pytest.fixture
def network(daemon: PrivateDaemon, docker: DockerCli, name: str) -> Iterator[str]:
    docker.out("network", "create", name)
    yield name
    daemon.remove_containers()
    docker("network", "rm", name)


@pytest.fixture
def made(daemon: PrivateDaemon, docker: DockerCli, name: str) -> Iterator[list[str]]:
    """Names of networks that the test makes; removed after it."""
    names: list[str] = []
    yield names
    daemon.remove_containers()
    for each in names:
        docker("network", "rm", each)


def endpoint(docker: DockerCli, container: str, network: str) -> dict[str, Any]:
    found: dict[str, Any] = docker.inspect(container)["NetworkSettings"]["Networks"][network]
    return found


def test_create_prints_the_id_and_a_second_time_is_a_conflict(
    docker: DockerCli, made: list[str], name: str
) -> None:
    made.append(name)
    assert re.fullmatch("[0-9a-f]{64}", docker.out("network", "create", name))
    again = docker("network", "create", name)
    assert again.returncode == 1
    assert f"network with name {name} already exists" in again.stderr


def test_the_inspect_document_has_dockers_members(docker: DockerCli, made: list[str], name: str) -> None:
    made.append(name)
    docker.out(
        *("network", "create", "--subnet", "10.98.3.0/24", "--ip-range", "10.98.3.128/25"),
        *("--gateway", "10.98.3.9", "--aux-address", "router=10.98.3.130", "--label", "a=b"),
        *("--internal", "--attachable", "-o", "com.docker.network.driver.mtu=1400", name),
    )
    found = docker.inspect(name, "network")
    assert found.pop("Created").startswith("20")
    assert found.pop("Id")
    assert found == {
        "Name": name,
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv4": True,
        "EnableIPv6": False,
        "IPAM": {
            "Driver": "default",
            "Options": {},
            "Config": [
                {
                    "Subnet": "10.98.3.0/24",
                    "IPRange": "10.98.3.128/25",
                    "Gateway": "10.98.3.9",
                    "AuxiliaryAddresses": {"router": "10.98.3.130"},
                }
            ],
        },
        "Internal": True,
        "Attachable": True,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {},
        "Options": {"com.docker.network.driver.mtu": "1400"},
        "Labels": {"a": "b"},
    }


def test_auxiliary_addresses_and_the_mtu_are_honoured(docker: DockerCli, made: list[str], name: str) -> None:
    made.append(name)
    docker.out(
        *("network", "create", "--subnet", "10.98.4.0/24", "--ip-range", "10.98.4.128/30"),
        *("--gateway", "10.98.4.1"),
        *("--aux-address", "a=10.98.4.128", "--aux-address", "b=10.98.4.129"),
        *("-o", "com.docker.network.driver.mtu=1400", name),
    )
    shown = docker.out("run", "--rm", "--network", name, "busybox", "ip", "addr", "show", "eth0")
    assert "10.98.4.130/24" in shown and "mtu 1400" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--subnet", "nonsense"), "invalid"),
        (("--subnet", "10.98.5.1/24"), "10.98.5.0/24"),
        (("--subnet", "10.98.5.0/24", "--gateway", "10.99.0.1"), "10.99.0.1"),
        (("--driver", "no-such-driver"), "no-such-driver"),
        (("--driver", "host"), 'only one instance of "host" network is allowed'),
        (("--driver", "null"), 'only one instance of "null" network is allowed'),
    ],
)
def test_impossible_networks_are_refused(
    docker: DockerCli, name: str, arguments: tuple[str, ...], message: str
) -> None:
    done = docker("network", "create", *arguments, name)
    assert done.returncode == 1
    assert message in done.stderr


def test_overlapping_subnets_are_refused(docker: DockerCli, made: list[str], name: str) -> None:
    made.append(name)
    docker.out("network", "create", "--subnet", "10.98.6.0/24", name)
    done = docker("network", "create", "--subnet", "10.98.6.128/25", f"{name}-2")
    assert done.returncode == 1
    assert "Pool overlaps with other one on this address space" in done.stderr


def test_unknown_networks_are_named(docker: DockerCli, name: str) -> None:
    for command in (("rm",), ("inspect",)):
        done = docker("network", *command, name)
        assert done.returncode == 1
        assert f"network {name} not found" in done.stderr
    docker.out("run", "-d", "--name", name, *SLEEP)
    done = docker("network", "connect", "no-such-network", name)
    assert "network no-such-network not found" in done.stderr


def test_networks_are_found_by_a_beginning_of_their_id(docker: DockerCli, network: str) -> None:
    id = docker.inspect(network, "network")["Id"]
    assert docker.out("network", "inspect", "-f", "{{.Name}}", id[:8]) == network


def test_lists_are_filtered(docker: DockerCli, made: list[str], name: str) -> None:
    made.append(name)
    docker.out("network", "create", "--label", f"mark={name}", name)
    id = docker.inspect(name, "network")["Id"]

    def listed(*filters: str) -> set[str]:
        options = [part for each in filters for part in ("--filter", each)]
        return set(docker.out("network", "ls", *options, "--format", "{{.Name}}").splitlines())

    assert listed(f"label=mark={name}") == {name}
    assert listed(f"name={name[:8]}") == {name}
    assert listed(f"id={id[:20]}") == {name}
    assert listed("driver=null") == {"none"}
    assert {"bridge", "host", "none"} <= listed("type=builtin") and name not in listed("type=builtin")
    assert name in listed("type=custom", "scope=local", "dangling=true")
    assert name not in listed("dangling=false")
    bad = docker("network", "ls", "--filter", "colour=red")
    assert bad.returncode == 1 and "invalid filter 'colour'" in bad.stderr


def test_several_networks_at_once(docker: DockerCli, network: str, made: list[str], name: str) -> None:
    made.append(f"{name}-2")
    docker.out("network", "create", f"{name}-2")
    docker.out("run", "-d", "--name", f"{name}-c", "--network", network, "--network", f"{name}-2", *SLEEP)
    assert set(docker.inspect(f"{name}-c")["NetworkSettings"]["Networks"]) == {network, f"{name}-2"}
    assert docker.out("exec", f"{name}-c", "ls", "/sys/class/net").split() == ["eth0", "eth1", "lo"]


def test_the_endpoint_of_a_container(docker: DockerCli, network: str, name: str) -> None:
    docker.out("run", "-d", "--name", f"{name}-c", "--network", network, "--network-alias", "www", *SLEEP)
    container = docker.inspect(f"{name}-c")
    found = container["NetworkSettings"]["Networks"][network]
    document = docker.inspect(network, "network")
    assert found["NetworkID"] == document["Id"]
    assert re.fullmatch("[0-9a-f]{64}", found["EndpointID"])
    assert found["Aliases"] == ["www"]
    assert found["DNSNames"] == [f"{name}-c", "www", container["Id"][:12]]
    assert found["Gateway"] == document["IPAM"]["Config"][0]["Gateway"]
    assert document["Containers"][container["Id"]] == {
        "Name": f"{name}-c",
        "EndpointID": found["EndpointID"],
        "MacAddress": found["MacAddress"],
        "IPv4Address": f"{found['IPAddress']}/{found['IPPrefixLen']}",
        "IPv6Address": "",
    }


def test_a_stopped_container_is_connected_for_its_next_start(
    docker: DockerCli, network: str, name: str
) -> None:
    docker.out("create", "--name", f"{name}-c", *SLEEP)
    docker.out("network", "connect", network, f"{name}-c")
    assert set(docker.inspect(f"{name}-c")["NetworkSettings"]["Networks"]) == {"bridge", network}
    docker.out("start", f"{name}-c")
    assert endpoint(docker, f"{name}-c", network)["IPAddress"]
    docker.out("network", "disconnect", "bridge", f"{name}-c")
    docker.out("restart", "-t", "0", f"{name}-c")
    assert set(docker.inspect(f"{name}-c")["NetworkSettings"]["Networks"]) == {network}
    assert docker.out("exec", f"{name}-c", "ls", "/sys/class/net").split() == ["eth0", "lo"]


def test_connecting_twice_and_disconnecting_a_stranger_are_refused(
    docker: DockerCli, network: str, name: str
) -> None:
    docker.out("run", "-d", "--name", f"{name}-c", "--network", network, *SLEEP)
    twice = docker("network", "connect", network, f"{name}-c")
    assert twice.returncode == 1
    assert f"endpoint with name {name}-c already exists in network {network}" in twice.stderr
    stranger = docker("network", "disconnect", "bridge", f"{name}-c")
    assert stranger.returncode == 1
    assert "is not connected to" in stranger.stderr


def test_the_hosts_network_takes_no_others(docker: DockerCli, network: str, name: str) -> None:
    docker.out("run", "-d", "--name", f"{name}-c", "--network", "host", *SLEEP)
    done = docker("network", "connect", network, f"{name}-c")
    assert done.returncode == 1
    assert "host" in done.stderr


def test_fixed_addresses_need_a_network_of_ones_own(docker: DockerCli, name: str) -> None:
    done = docker("run", "--rm", "--ip", "172.17.0.77", *SLEEP)
    assert done.returncode == 125
    assert "user specified IP address is supported" in done.stderr


def test_aliases_need_a_network_of_ones_own(docker: DockerCli, name: str) -> None:
    done = docker("run", "--rm", "--network-alias", "www", *SLEEP)
    assert done.returncode == 125
    assert "network-scoped alias" in done.stderr.lower()


def test_a_fixed_mac_address(docker: DockerCli, network: str) -> None:
    mac = "02:42:ac:11:aa:bb"
    for options in (("--mac-address", mac), ("--network", network, "--mac-address", mac)):
        assert docker.out("run", "--rm", *options, "busybox", "cat", "/sys/class/net/eth0/address") == mac


def test_prune_removes_what_no_container_uses(
    docker: DockerCli, network: str, made: list[str], name: str
) -> None:
    docker.out("run", "-d", "--name", f"{name}-c", "--network", network, *SLEEP)
    docker.out("network", "create", "--label", f"mark={name}", f"{name}-2")
    made.append(f"{name}-2")
    assert f"{name}-2" in docker.out("network", "prune", "-f", "--filter", f"label=mark={name}")
    names = docker.out("network", "ls", "--format", "{{.Name}}").splitlines()
    assert network in names and f"{name}-2" not in names


def test_prune_keeps_what_is_younger(docker: DockerCli, network: str) -> None:
    docker.out("network", "prune", "-f", "--filter", "until=1h")
    assert network in docker.out("network", "ls", "--format", "{{.Name}}").splitlines()


def test_events_tell_of_networks(docker: DockerCli, made: list[str], name: str) -> None:
    docker.out("network", "create", name)
    docker.out("run", "--rm", "--network", name, "busybox", "true")
    docker.out("network", "rm", name)
    told = docker.out(
        *("events", "--since", "1m", "--until", str(int(time.time()) + 1), "--filter", "type=network"),
        *("--filter", f"network={name}", "--format", "{{.Action}} {{.Actor.Attributes.type}}"),
    )
    assert told.splitlines() == ["create bridge", "connect bridge", "disconnect bridge", "destroy bridge"]


def test_hosts_and_resolv_conf_of_a_container(docker: DockerCli, network: str, name: str) -> None:
    options = (
        "--add-host",
        "db:10.9.8.7",
        "--dns",
        "192.0.2.53",
        "--dns-search",
        "example.org",
        "--dns-option",
        "ndots:2",
    )
    plain = docker.out(
        "run", "--rm", *options, "--hostname", "www", "busybox", "cat", "/etc/hosts", "/etc/resolv.conf"
    )
    lines = [re.sub(r"\s+", " ", line) for line in plain.splitlines()]
    assert "10.9.8.7 db" in lines
    assert any(re.fullmatch(r"172\.\d+\.\d+\.\d+ www", line) for line in lines)
    assert {"nameserver 192.0.2.53", "search example.org", "options ndots:2"} <= set(lines)
    own = docker.out("run", "--rm", *options, "--network", network, "busybox", "cat", "/etc/resolv.conf")
    assert "nameserver 127.0.0.11" in own.splitlines() and "search example.org" in own.splitlines()


def test_legacy_links_name_the_other_container(docker: DockerCli, name: str) -> None:
    docker.out("run", "-d", "--name", f"{name}-db", *SLEEP)
    address = endpoint(docker, f"{name}-db", "bridge")["IPAddress"]
    hosts = docker.out("run", "--rm", "--link", f"{name}-db:store", "busybox", "cat", "/etc/hosts")
    assert re.search(rf"^{re.escape(address)}\s+store\b", hosts, re.MULTILINE)


def test_ipv6_networks(docker: DockerCli, made: list[str], name: str) -> None:
    made.append(name)
    docker.out("network", "create", "--ipv6", "--subnet", "fd00:5e0:7::/64", name)
    docker.out("run", "-d", "--name", f"{name}-c", "--network", name, *SLEEP)
    found = endpoint(docker, f"{name}-c", name)
    assert (found["GlobalIPv6Address"], found["GlobalIPv6PrefixLen"]) == ("fd00:5e0:7::2", 64)
    assert found["IPv6Gateway"] == "fd00:5e0:7::1"
    assert "fd00:5e0:7::2" in docker.out("exec", f"{name}-c", "ip", "-6", "addr", "show", "eth0")
    assert "default via fd00:5e0:7::1" in docker.out("exec", f"{name}-c", "ip", "-6", "route")


def test_a_created_container_shows_its_future_networks(docker: DockerCli, network: str, name: str) -> None:
    docker.out("create", "--name", f"{name}-c", "--network", network, "-p", "8077:80", *SLEEP)
    settings = docker.inspect(f"{name}-c")["NetworkSettings"]
    assert settings["Networks"][network]["IPAddress"] == ""
    assert settings["Ports"] == {}
    docker.out("start", f"{name}-c")
    docker.out("stop", "-t", "0", f"{name}-c")
    settings = docker.inspect(f"{name}-c")["NetworkSettings"]
    assert settings["Networks"][network]["IPAddress"] == ""
    assert settings["Ports"] == {}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/networks/create", b"{"),
        ("/networks/create", b'{"Name": 5}'),
        ("/networks/create", b"{}"),
        ("/networks/create", b'{"Name": "x", "IPAM": {"Config": [{"Subnet": "10.0.0.0/99"}]}}'),
        ("/networks/bridge/connect", b"[]"),
    ],
)
def test_bad_requests_are_refused_with_400(api: ApiClient, path: str, body: bytes) -> None:
    answer = api.request("POST", path, body, headers={"Content-Type": "application/json"})
    assert answer.status == 400, answer.body
    assert json.loads(answer.body)["message"]


def test_a_guest_of_anothers_network_has_its_names(docker: DockerCli, network: str, name: str) -> None:
    docker.out("run", "-d", "--name", f"{name}-c", "--network", network, "--add-host", "db:10.9.8.7", *SLEEP)
    files = ("cat", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname")
    guest = docker.out("run", "--rm", "--network", f"container:{name}-c", "busybox", *files)
    assert guest == docker.out("exec", f"{name}-c", *files)
    answer = docker.out("run", "--rm", "--network", f"container:{name}-c", "busybox", "nslookup", f"{name}-c")
    assert endpoint(docker, f"{name}-c", network)["IPAddress"] in answer


def test_the_hosts_file_of_the_hosts_network_is_the_hosts(docker: DockerCli) -> None:
    show = ("busybox", "cat", "/etc/hosts")
    assert docker.out("run", "--rm", "--network", "host", *show) == Path("/etc/hosts").read_text().rstrip()
    added = docker.out("run", "--rm", "--network", "host", "--add-host", "db:10.9.8.7", *show)
    assert re.search(r"^10\.9\.8\.7\s+db$", added, re.MULTILINE)


def test_the_predefined_networks_look_like_dockers(docker: DockerCli) -> None:
    for name, driver in (("host", "host"), ("none", "null")):
        found = docker.inspect(name, "network")
        assert (found["Driver"], found["Scope"], found["Options"]) == (driver, "local", {})
        assert found["IPAM"] == {"Driver": "default", "Options": None, "Config": None}
    bridge = docker.inspect("bridge", "network")
    assert bridge["Options"].pop("com.docker.network.bridge.name")
    assert bridge["Options"] == {
        "com.docker.network.bridge.default_bridge": "true",
        "com.docker.network.bridge.enable_icc": "true",
        "com.docker.network.bridge.enable_ip_masquerade": "true",
        "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
        "com.docker.network.driver.mtu": "1500",
    }
    assert [set(pool) for pool in bridge["IPAM"]["Config"]] == [{"Subnet", "Gateway"}]


def test_connected_networks_are_added_to_the_hosts_file(docker: DockerCli, network: str, name: str) -> None:
    docker.out("run", "-d", "--name", f"{name}-c", "--hostname", "www", *SLEEP)
    docker.out("network", "connect", network, f"{name}-c")
    address = endpoint(docker, f"{name}-c", network)["IPAddress"]
    assert re.search(
        rf"^{re.escape(address)}\s+www$", docker.out("exec", f"{name}-c", "cat", "/etc/hosts"), re.M
    )
    assert docker.out("exec", f"{name}-c", "nslookup", f"{name}-c")
    docker.out("network", "disconnect", network, f"{name}-c")
    assert address not in docker.out("exec", f"{name}-c", "cat", "/etc/hosts")


def test_names_follow_a_rename(docker: DockerCli, network: str, name: str) -> None:
    docker.out("run", "-d", "--name", f"{name}-c", "--network", network, *SLEEP)
    docker.out("rename", f"{name}-c", f"{name}-d")
    address = endpoint(docker, f"{name}-d", network)["IPAddress"]
    assert address in docker.out("run", "--rm", "--network", network, "busybox", "nslookup", f"{name}-d")
    assert docker("run", "--rm", "--network", network, "busybox", "nslookup", f"{name}-c").returncode == 1


def test_a_fixed_address_stays_over_a_restart(docker: DockerCli, made: list[str], name: str) -> None:
    made.append(name)
    docker.out("network", "create", "--subnet", "10.96.0.0/24", name)
    docker.out("run", "-d", "--name", f"{name}-c", "--network", name, "--ip", "10.96.0.9", *SLEEP)
    docker.out("restart", "-t", "0", f"{name}-c")
    assert endpoint(docker, f"{name}-c", name)["IPAddress"] == "10.96.0.9"
    assert endpoint(docker, f"{name}-c", name)["IPAMConfig"] == {"IPv4Address": "10.96.0.9"}
    taken = docker("run", "--rm", "--network", name, "--ip", "10.96.0.9", "busybox", "true")
    assert taken.returncode == 125 and "Address already in use" in taken.stderr
    outside = docker("run", "--rm", "--network", name, "--ip", "10.95.0.9", "busybox", "true")
    assert outside.returncode == 125 and "10.95.0.9" in outside.stderr
