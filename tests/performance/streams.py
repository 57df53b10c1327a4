"""Measurements of data: logs, published ports, loading an image."""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from tests.harness.daemon import ROOT
from tests.harness.images import docker_archive
from tests.performance.containers import VERSION, remove, start
from tests.performance.engines import IMAGE, Engine
from tests.performance.raw_http import RawConnection
from tests.performance.report import Results

LOG_BYTES = 200_000_000
PORT = 9321
PYTHON_OF_THE_HOST = ["/usr:/usr:ro", "/lib:/lib:ro", "/lib64:/lib64:ro"]

SERVER = """
import socket
server = socket.create_server(('', 9321), backlog=1024)
block = bytes(1 << 20)
while True:
    connection, _ = server.accept()
    if connection.recv(1) == b'm':
        for _ in range(512):
            connection.sendall(block)
    connection.close()
"""

CLIENT = """
import socket, sys, time
address = (sys.argv[1], int(sys.argv[2]))
def once(letter):
    with socket.create_connection(address) as connection:
        connection.sendall(letter)
        total = 0
        while part := connection.recv(1 << 20):
            total += len(part)
        return total
deadline = time.monotonic() + 20
while True:
    try:
        once(b'c')
        break
    except OSError:
        if time.monotonic() > deadline:
            raise
began = time.perf_counter()
for _ in range(2000):
    once(b'c')
connections = 2000 / (time.perf_counter() - began)
began = time.perf_counter()
size = once(b'm')
print(connections, size / (time.perf_counter() - began) / 1e6)
"""


def measure_logs(name: str, engine: Engine, results: Results, times: int) -> None:
    """A container that writes 200 MB of lines as fast as its log takes them."""
    connection = RawConnection(engine.socket)
    with tempfile.NamedTemporaryFile() as lines:
        lines.write(b"%099d\n" % 7 * (LOG_BYTES // 100))
        lines.flush()
        driver = "k8s-file" if name == "podman" else "json-file"
        host = {"Binds": [f"{lines.name}:/lines:ro"], "LogConfig": {"Type": driver}, "NetworkMode": "none"}
        body = {"Image": IMAGE, "Cmd": ["cat", "/lines"], "HostConfig": host}
        samples = []
        for _ in range(times):
            identity = json.loads(connection.expect("POST", f"{VERSION}/containers/create", body))["Id"]
            began = time.perf_counter()
            start(connection, identity)
            connection.expect("POST", f"{VERSION}/containers/{identity}/wait")
            samples.append(LOG_BYTES / (time.perf_counter() - began) / 1e6)
            remove(connection, identity)
    results.add("log of 200 MB of lines", "MB/s", name, statistics.median(samples))
    connection.close()


def measure_ports(name: str, engine: Engine, results: Results, times: int) -> None:
    """Connections and bytes through a published port on loopback, and straight to the container."""
    connection = RawConnection(engine.socket)
    host = {
        "Binds": PYTHON_OF_THE_HOST,
        "PortBindings": {f"{PORT}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(PORT)}]},
        "NetworkMode": "bridge",
    }
    command = ["/usr/bin/python3", "-IS", "-c", SERVER]
    body = {"Image": IMAGE, "Cmd": command, "ExposedPorts": {f"{PORT}/tcp": {}}, "HostConfig": host}
    identity = json.loads(connection.expect("POST", f"{VERSION}/containers/create", body))["Id"]
    start(connection, identity)
    found = json.loads(connection.expect("GET", f"{VERSION}/containers/{identity}/json"))
    networks = found["NetworkSettings"]["Networks"]
    inside = next(iter(networks.values()))["IPAddress"]
    try:
        for title, address in (("published port", "127.0.0.1"), ("direct connection", inside)):
            rates = [client_rates(engine, address) for _ in range(times)]
            results.add(f"{title}: connections", "1/s", name, statistics.median(rate[0] for rate in rates))
            results.add(f"{title}: data", "MB/s", name, statistics.median(rate[1] for rate in rates))
    finally:
        remove(connection, identity)
        connection.close()


def client_rates(engine: Engine, address: str) -> tuple[float, float]:
    """(connections a second, megabytes a second) of one client in the engine's network namespace."""
    done = engine.network.run(["/usr/bin/python3", "-IS", "-c", CLIENT, address, str(PORT)], timeout=120)
    assert done.returncode == 0, done.stderr
    connections, rate = done.stdout.split()
    return float(connections), float(rate)


def measure_load(name: str, engine: Engine, results: Results, times: int) -> None:
    """`load` of a Debian image as a docker-archive."""
    root = subprocess.run(
        [ROOT / "scripts/debian-root"], capture_output=True, text=True, check=True
    ).stdout.strip()
    samples = []
    with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
        archive.write(docker_archive([Path(root).read_bytes()], ["bench-debian:latest"], Cmd=["bash"]))
        archive.flush()
        size = Path(archive.name).stat().st_size
        for _ in range(times):
            connection = RawConnection(engine.socket)
            began = time.perf_counter()
            connection.send_file(f"{VERSION}/images/load", Path(archive.name))
            samples.append(time.perf_counter() - began)
            connection.close()
            connection = RawConnection(engine.socket)
            connection.expect("DELETE", f"{VERSION}/images/bench-debian:latest")
            connection.close()
    results.add(f"load a docker-archive of {size // 1_000_000} MB", "s", name, statistics.median(samples))
