"""The network namespaces that tests run daemons in are separate from the host's."""

from __future__ import annotations

import os
import socket

from tests.harness.network_namespace import NetworkNamespace


def test_a_namespace_has_loopback_alone() -> None:
    with NetworkNamespace() as network:
        assert network.interfaces() == {"lo"}


def test_a_command_runs_inside_and_the_caller_stays_outside() -> None:
    before = os.readlink("/proc/self/ns/net")
    with NetworkNamespace() as network:
        inside = network.run(["readlink", "/proc/self/ns/net"]).stdout.strip()
    assert inside not in ("", before)
    assert os.readlink("/proc/thread-self/ns/net") == before


def test_a_connection_reaches_a_server_inside() -> None:
    with NetworkNamespace() as network, network.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with network.connect(port) as client, server.accept()[0] as served:
            client.sendall(b"x")
            assert served.recv(1) == b"x"
