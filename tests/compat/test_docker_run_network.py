"""docker run: published ports, network modes, user-defined networks and names."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest

from tests.harness.daemon import PrivateDaemon
from tests.harness.docker_cli import DockerCli
from tests.harness.network_namespace import NetworkNamespace

SERVER = ("busybox", "httpd", "-f", "-h", "/var/www")
HOST_PYTHON = ("-v", "/usr:/usr:ro", "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro")
UDP_ECHO = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(('', 7000))
while True:
    server.sendto(*server.recvfrom(65536))
"""
PAGE = b"hello from the island\n"


@pytest.fixture
def host(daemon: PrivateDaemon) -> NetworkNamespace:
    """The network namespace that is the host for the daemon."""
    return daemon.network


@pytest.fixture
def network(docker: DockerCli, name: str) -> Iterator[str]:
    docker.out("network", "create", name)
    yield name
    for container in docker.out("ps", "-aq").split():
        docker.out("rm", "-f", container)
    docker.out("network", "rm", name)


def get_page(host: NetworkNamespace, port: int, address: str = "127.0.0.1") -> bytes:
    with host.connect(port, address) as client:
        client.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
    return answer.partition(b"\r\n\r\n")[2]


def published(docker: DockerCli, name: str, port: str) -> int:
    return int(docker.out("port", name, port).splitlines()[0].rpartition(":")[2])


def wait_until_served(host: NetworkNamespace, port: int) -> None:
    """Return when a connection works: the server inside starts a little after its container."""
    script = f"until wget -q -O /dev/null http://127.0.0.1:{port}/index.html; do :; done"
    host.run(["timeout", "20", "busybox", "sh", "-c", script], check=True)


def test_a_random_port_is_published_on_every_address(
    docker: DockerCli, host: NetworkNamespace, name: str
) -> None:
    docker.out("run", "-d", "--name", name, "-p", "80", *SERVER)
    port = published(docker, name, "80/tcp")
    assert port >= 1024
    wait_until_served(host, port)
    assert get_page(host, port) == PAGE


def test_a_fixed_port_on_one_address(docker: DockerCli, host: NetworkNamespace, name: str) -> None:
    docker.out("run", "-d", "--name", name, "-p", "127.0.0.1:8081:80", *SERVER)
    assert docker.out("port", name) == "80/tcp -> 127.0.0.1:8081"
    wait_until_served(host, 8081)
    assert get_page(host, 8081) == PAGE
    bindings = docker.inspect(name)["NetworkSettings"]["Ports"]
    assert bindings == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8081"}]}
    assert "127.0.0.1:8081->80/tcp" in docker.out("ps", "--format", "{{.Ports}}")


def test_a_range_of_ports(docker: DockerCli, name: str) -> None:
    docker.out("run", "-d", "--name", name, "-p", "127.0.0.1:9000-9002:8000-8002", "busybox", "sleep", "1000")
    lines = set(docker.out("port", name).splitlines())
    assert lines == {f"800{n}/tcp -> 127.0.0.1:900{n}" for n in range(3)}


def test_one_port_out_of_a_range_is_chosen(docker: DockerCli, name: str) -> None:
    for number in (1, 2):
        docker.out(
            *(
                "run",
                "-d",
                "--name",
                f"{name}-{number}",
                "-p",
                "127.0.0.1:9100-9101:80",
                "busybox",
                "sleep",
                "1000",
            )
        )
    assert {published(docker, f"{name}-{number}", "80") for number in (1, 2)} == {9100, 9101}


def test_udp_and_tcp_are_separate(docker: DockerCli, host: NetworkNamespace, name: str) -> None:
    server = 'python3 -IS -c "$ECHO" & exec httpd -f -h /var/www'
    docker.out(
        *("run", "-d", "--name", name, "-p", "127.0.0.1:7000:7000/udp", "-p", "127.0.0.1:7000:80"),
        *(*HOST_PYTHON, "-e", f"ECHO={UDP_ECHO}", "busybox", "sh", "-c", server),
    )
    wait_until_served(host, 7000)
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", 7000))
        assert exchange(client, b"ping\n") == b"ping\n"


def exchange(client: socket.socket, message: bytes, tries: int = 50) -> bytes:
    """Send a datagram until an answer comes: the server may not have started yet."""
    client.settimeout(0.2)
    for _ in range(tries):
        try:
            client.send(message)
            return client.recv(65536)
        except (TimeoutError, ConnectionRefusedError):
            continue
    raise AssertionError("no answer")


def test_a_port_in_use_is_refused_with_its_number(docker: DockerCli, name: str) -> None:
    docker.out("run", "-d", "--name", f"{name}-1", "-p", "127.0.0.1:8090:80", *SERVER)
    done = docker("run", "--rm", "--name", f"{name}-2", "-p", "127.0.0.1:8090:80", *SERVER)
    assert done.returncode == 125
    assert "8090" in done.stderr
    assert "port is already allocated" in done.stderr or "already used by" in done.stderr


def test_a_port_is_free_again_after_the_container_has_stopped(
    docker: DockerCli, host: NetworkNamespace, name: str
) -> None:
    docker.out("run", "-d", "--name", f"{name}-1", "-p", "127.0.0.1:8091:80", *SERVER)
    docker.out("stop", "-t", "0", f"{name}-1")
    with pytest.raises(ConnectionRefusedError):
        host.connect(8091)
    docker.out("run", "-d", "--name", f"{name}-2", "-p", "127.0.0.1:8091:80", *SERVER)


def test_exposed_ports_are_published_with_capital_p(docker: DockerCli, name: str) -> None:
    docker.out(
        "run", "-d", "--name", name, "--expose", "80", "--expose", "53/udp", "-P", "busybox", "sleep", "1000"
    )
    assert published(docker, name, "80/tcp") != 0
    assert published(docker, name, "53/udp") != 0


def test_the_client_s_address_is_kept(docker: DockerCli, host: NetworkNamespace, name: str) -> None:
    docker.out(
        "run", "-d", "--name", name, "-p", "8095:80", *SERVER[:1], "httpd", "-f", "-vv", "-h", "/var/www"
    )
    wait_until_served(host, 8095)
    gateway = docker.inspect(name)["NetworkSettings"]["Networks"]["bridge"]["Gateway"]
    assert get_page(host, 8095, gateway) == PAGE
    assert gateway in docker("logs", name).stderr


def test_the_container_has_an_address_and_a_route(docker: DockerCli, name: str) -> None:
    docker.out("run", "-d", "--name", name, "busybox", "sleep", "1000")
    endpoint = docker.inspect(name)["NetworkSettings"]["Networks"]["bridge"]
    assert endpoint["IPAddress"] in docker.out("exec", name, "ip", "-4", "addr", "show", "eth0")
    assert docker.out("exec", name, "ip", "route").startswith(f"default via {endpoint['Gateway']}")
    assert endpoint["MacAddress"] in docker.out("exec", name, "ip", "link", "show", "eth0")


def test_network_none_has_loopback_alone(docker: DockerCli) -> None:
    assert docker.out("run", "--rm", "--network", "none", "busybox", "ls", "/sys/class/net") == "lo"


def test_network_host_is_the_host_s(docker: DockerCli, host: NetworkNamespace) -> None:
    outside = host.run(["readlink", "/proc/self/ns/net"]).stdout.strip()
    assert (
        docker.out("run", "--rm", "--network", "host", "busybox", "readlink", "/proc/self/ns/net") == outside
    )


def test_a_container_s_network_can_be_shared(docker: DockerCli, name: str) -> None:
    docker.out("run", "-d", "--name", name, *SERVER)
    script = "until wget -q -O - http://127.0.0.1/index.html; do :; done"
    assert (
        docker.out("run", "--rm", "--network", f"container:{name}", "busybox", "sh", "-c", script).encode()
        == PAGE[:-1]
    )


def test_names_are_resolved_in_a_network_of_one_s_own(docker: DockerCli, network: str, name: str) -> None:
    docker.out("run", "-d", "--name", f"{name}-web", "--network", network, "--network-alias", "www", *SERVER)
    for host_name in (f"{name}-web", "www"):
        script = f"until wget -q -O - http://{host_name}/index.html; do :; done"
        assert (
            docker.out("run", "--rm", "--network", network, "busybox", "sh", "-c", script).encode()
            == PAGE[:-1]
        )


def test_an_unknown_name_is_not_resolved(docker: DockerCli, network: str) -> None:
    assert (
        docker("run", "--rm", "--network", network, "busybox", "nslookup", "nobody-here.invalid").returncode
        == 1
    )


def test_a_fixed_address(docker: DockerCli, name: str) -> None:
    docker.out("network", "create", "--subnet", "10.99.7.0/24", "--gateway", "10.99.7.1", name)
    try:
        text = docker.out(
            "run",
            "--rm",
            "--network",
            name,
            "--ip",
            "10.99.7.77",
            "busybox",
            "ip",
            "-4",
            "addr",
            "show",
            "eth0",
        )
        assert "10.99.7.77/24" in text
    finally:
        docker.out("network", "rm", name)


def test_connect_and_disconnect_a_running_container(docker: DockerCli, network: str, name: str) -> None:
    docker.out("run", "-d", "--name", f"{name}-c", "busybox", "sleep", "1000")
    docker.out("network", "connect", "--alias", "other", network, f"{name}-c")
    assert set(docker.inspect(f"{name}-c")["NetworkSettings"]["Networks"]) == {"bridge", network}
    assert docker.out("exec", f"{name}-c", "ls", "/sys/class/net").split() == ["eth0", "eth1", "lo"]
    docker.out("network", "disconnect", network, f"{name}-c")
    assert set(docker.inspect(f"{name}-c")["NetworkSettings"]["Networks"]) == {"bridge"}
    assert docker.out("exec", f"{name}-c", "ls", "/sys/class/net").split() == ["eth0", "lo"]
    docker.out("network", "connect", network, f"{name}-c")
    assert docker.out("exec", f"{name}-c", "ls", "/sys/class/net").split() == ["eth0", "eth1", "lo"]


def test_a_network_in_use_cannot_be_removed(docker: DockerCli, network: str, name: str) -> None:
    docker.out("run", "-d", "--name", f"{name}-c", "--network", network, "busybox", "sleep", "1000")
    done = docker("network", "rm", network)
    assert done.returncode == 1
    assert "has active endpoints" in done.stderr


def test_containers_of_different_networks_do_not_reach_each_other(
    docker: DockerCli, network: str, name: str
) -> None:
    docker.out("run", "-d", "--name", f"{name}-web", *SERVER)
    address = docker.inspect(f"{name}-web")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    done = docker(
        "run",
        "--rm",
        "--network",
        network,
        "busybox",
        "wget",
        "-T",
        "2",
        "-q",
        "-O",
        "-",
        f"http://{address}/",
    )
    assert done.returncode != 0


def test_an_unknown_network_is_refused(docker: DockerCli) -> None:
    done = docker("run", "--rm", "--network", "no-such-network", "busybox", "true")
    assert done.returncode == 125
    assert "network no-such-network not found" in done.stderr


def test_network_ls_and_inspect(docker: DockerCli, network: str, name: str) -> None:
    docker.out("run", "-d", "--name", f"{name}-c", "--network", network, "busybox", "sleep", "1000")
    rows = docker.out("network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}").splitlines()
    assert {"bridge bridge local", "host host local", "none null local", f"{network} bridge local"} <= set(
        rows
    )
    found = docker.inspect(network, "network")
    assert re.fullmatch("[0-9a-f]{64}", found["Id"])
    (member,) = found["Containers"].values()
    assert member["Name"] == f"{name}-c"
    assert member["IPv4Address"].endswith("/16") or member["IPv4Address"].endswith("/24")


@pytest.mark.parametrize("bad", ["host", "bridge", "none"])
def test_the_predefined_networks_stay(docker: DockerCli, bad: str) -> None:
    done = docker("network", "rm", bad)
    assert done.returncode == 1
    assert f"{bad} is a pre-defined network and cannot be removed" in done.stderr
