"""Networks across crashes, restarts and stops of the daemon."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from tests.harness.daemon import PrivateDaemon
from tests.harness.kill_points import killed_at

WEB = ("busybox", "httpd", "-f", "-h", "/var/www")
PAGE = "hello from the island"


def fetch(daemon: PrivateDaemon, address: str) -> str:
    """A page through wget in the host's namespace, tried until the server inside is up."""
    script = f"until wget -q -O - http://{address}/index.html; do :; done"
    return daemon.network.run(["timeout", "20", "busybox", "sh", "-c", script], check=True).stdout.strip()


def resolved(daemon: PrivateDaemon, container: str, name: str) -> bool:
    """Whether a container fetches the page from another by name, tried until the server is up."""
    script = f"until wget -q -O - http://{name}/index.html; do :; done"
    return PAGE in daemon.docker.out("exec", container, "sh", "-c", script, timeout_s=20)


def test_ports_addresses_and_names_outlive_the_daemon(own_daemon: PrivateDaemon) -> None:
    docker = own_daemon.docker
    docker.out("network", "create", "blue")
    docker.out("run", "-d", "--name", "web", "--network", "blue", "-p", "8080:80", *WEB)
    docker.out("run", "-d", "--name", "plain", "-p", "8081:80", *WEB)
    docker.out("run", "-d", "--name", "client", "--network", "blue", "busybox", "sleep", "1000")
    before = {name: docker.inspect(name)["NetworkSettings"] for name in ("web", "plain", "client")}
    assert resolved(own_daemon, "client", "web")

    own_daemon.kill9()
    assert fetch(own_daemon, "127.0.0.1:8080") == fetch(own_daemon, "127.0.0.1:8081") == PAGE
    own_daemon.start()

    assert {name: docker.inspect(name)["NetworkSettings"] for name in before} == before
    assert fetch(own_daemon, "127.0.0.1:8080") == fetch(own_daemon, "[::1]:8081") == PAGE
    assert resolved(own_daemon, "client", "web")
    refused = docker("run", "-d", "-p", "8080:80", *WEB)
    assert refused.returncode == 125 and 'container "web"' in refused.stderr
    with pytest.raises(OSError, match="in use"):
        own_daemon.network.call(lambda: socket.create_server(("0.0.0.0", 8081)))
    docker.out("rm", "-f", "plain")
    docker.out("run", "-d", "--name", "next", "-p", "8081:80", *WEB)
    assert fetch(own_daemon, "127.0.0.1:8081") == PAGE


def test_what_ended_without_a_daemon_gives_back_its_ports_and_addresses(own_daemon: PrivateDaemon) -> None:
    docker = own_daemon.docker
    empty = own_daemon.leftovers()
    docker.out("run", "-d", "--name", "web", "-p", "8080:80", *WEB)
    address = docker.inspect("web")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    pid = docker.inspect("web")["State"]["Pid"]
    own_daemon.kill9()
    own_daemon.network.run(["kill", "-9", str(pid)], check=True)
    own_daemon.start()
    assert docker.inspect("web")["State"]["Status"] == "exited"
    assert docker.out("network", "inspect", "-f", "{{len .Containers}}", "bridge") == "0"
    docker.out("run", "-d", "--name", "next", "-p", "8080:80", *WEB)
    assert docker.inspect("next")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] == address
    docker.out("rm", "-f", "web", "next")
    remaining = own_daemon.wait_for_leftovers(replace(own_daemon.leftovers(), interfaces=empty.interfaces))
    assert not remaining


def test_networks_are_there_again_after_a_reboot(own_daemon: PrivateDaemon) -> None:
    docker = own_daemon.docker
    docker.out("network", "create", "--subnet", "10.97.0.0/24", "blue")
    id = docker.inspect("blue", "network")["Id"]
    own_daemon.stop()
    for link in own_daemon.network.run(["ip", "-br", "link"]).stdout.splitlines():
        if own_daemon.instance in link:
            own_daemon.network.run(["ip", "link", "del", link.split()[0]], check=True)
    own_daemon.start()
    assert docker.inspect("blue", "network")["Id"] == id
    shown = docker.out("run", "--rm", "--network", "blue", "busybox", "ip", "addr", "show", "eth0")
    assert "10.97.0.2/24" in shown


def test_a_bridge_of_no_known_network_is_removed_at_the_start(own_daemon: PrivateDaemon) -> None:
    docker = own_daemon.docker
    own_daemon.stop()
    name, alias = f"sm-{own_daemon.instance}dead0", f"seom:{own_daemon.instance}:{'dead' * 16}"
    own_daemon.network.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    own_daemon.network.run(["ip", "link", "set", name, "alias", alias], check=True)
    own_daemon.start()
    assert name not in own_daemon.network.run(["ip", "-br", "link"]).stdout
    assert docker.out("run", "--rm", "busybox", "echo", "well") == "well"


# Calls that the daemon makes while it changes networks; it is killed as it enters each.
CHANGES = {
    "create": ("network", "create", "green"),
    "rm": ("network", "rm", "blue"),
    "connect": ("network", "connect", "blue", "web"),
    "disconnect": ("network", "disconnect", "bridge", "web"),
    "run": ("run", "-d", "--name", "next", "--network", "blue", "-p", "8082:80", *WEB),
}
POINTS = [("sendto", 2), ("sendmsg", 1), ("pwrite64", 2)]


@pytest.mark.parametrize("call", POINTS, ids=lambda call: f"{call[0]}-{call[1]}")
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_is_cut_short_leaves_networks_consistent(
    own_daemon: PrivateDaemon, change: str, call: tuple[str, int]
) -> None:
    docker = own_daemon.docker
    docker.out("network", "create", "blue")
    docker.out("run", "-d", "--name", "web", "-p", "8080:80", *WEB)
    bridges = {link for link in own_daemon.network.interfaces() if not link.startswith("veth")}
    with killed_at(own_daemon.pid, *call):
        docker(*CHANGES[change])
    if own_daemon.process is not None and own_daemon.process.poll() is None:
        own_daemon.kill9()
    own_daemon.start()
    names = docker.out("network", "ls", "--format", "{{.Name}}").splitlines()
    for container in docker.out("ps", "-q").split():
        shown = set(docker.inspect(container)["NetworkSettings"]["Networks"])
        inside = docker.out("exec", container, "ls", "/sys/class/net").split()
        assert shown <= set(names) and len(inside) == len(shown) + 1
    assert docker.out("run", "--rm", "busybox", "echo", "well") == "well"
    for container in docker.out("ps", "-aq").split():
        docker.out("rm", "-f", container)
    for name in {"blue", "green"} & set(names):
        docker.out("network", "rm", name)
    expected = {link for link in bridges if not link.startswith("sm-")}
    assert not own_daemon.wait_for_leftovers(replace(own_daemon.leftovers(), interfaces=frozenset(expected)))
