"""Measurements through the Engine API and the command lines: starts, execs, many containers, memory."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.performance.engines import IMAGE, Engine, engine_memory, environment, process_rss, run_commands
from tests.performance.raw_http import RawConnection
from tests.performance.report import Results

VERSION = "/v1.41"
PARALLEL = 32


def milliseconds(times: int, function: Callable[..., object], *arguments: object) -> float:
    """The median time of a call, after one that is not counted."""
    function(*arguments)
    samples = []
    for _ in range(times):
        began = time.perf_counter()
        function(*arguments)
        samples.append((time.perf_counter() - began) * 1000)
    return statistics.median(samples)


def create(connection: RawConnection, command: list[str], network: str = "bridge") -> str:
    """Create a container; its id."""
    body = {"Image": IMAGE, "Cmd": command, "HostConfig": {"NetworkMode": network}}
    return str(json.loads(connection.expect("POST", f"{VERSION}/containers/create", body))["Id"])


def start(connection: RawConnection, identity: str) -> None:
    connection.expect("POST", f"{VERSION}/containers/{identity}/start")


def remove(connection: RawConnection, identity: str) -> None:
    connection.expect("DELETE", f"{VERSION}/containers/{identity}?force=1")


def whole_life(connection: RawConnection, network: str = "bridge") -> None:
    """Create, start, wait for and remove a container that does nothing."""
    identity = create(connection, ["true"], network)
    start(connection, identity)
    connection.expect("POST", f"{VERSION}/containers/{identity}/wait")
    remove(connection, identity)


def measure_starts(name: str, engine: Engine, results: Results, times: int) -> None:
    """Through the API on one kept connection."""
    connection = RawConnection(engine.socket)
    for network in ("bridge", "host", "none"):
        median = milliseconds(times, whole_life, connection, network)
        results.add(f"API create+start+wait+rm, {network}", "ms", name, median)
    results.add("API create+start, bridge", "ms", name, create_and_start(connection, times))
    connection.close()


def create_and_start(connection: RawConnection, times: int) -> float:
    samples = []
    for _ in range(times):
        began = time.perf_counter()
        identity = create(connection, ["sleep", "1000"])
        start(connection, identity)
        samples.append((time.perf_counter() - began) * 1000)
        remove(connection, identity)
    return statistics.median(samples)


def measure_exec(name: str, engine: Engine, results: Results, times: int) -> None:
    """Create an exec, start it attached, read its stream to the end, ask for the exit code."""
    connection = RawConnection(engine.socket)
    identity = create(connection, ["sleep", "1000"])
    start(connection, identity)

    def run_once() -> None:
        body = {"AttachStdout": True, "AttachStderr": True, "Cmd": ["true"]}
        answer = connection.expect("POST", f"{VERSION}/containers/{identity}/exec", body)
        exec_id = json.loads(answer)["Id"]
        stream = RawConnection(engine.socket)
        stream.send("POST", f"{VERSION}/exec/{exec_id}/start", {"Detach": False, "Tty": False})
        stream.read_to_end()
        stream.close()
        found = json.loads(connection.expect("GET", f"{VERSION}/exec/{exec_id}/json"))
        assert found["ExitCode"] == 0, found

    results.add("API exec, attached", "ms", name, milliseconds(times, run_once))
    remove(connection, identity)
    connection.close()


def measure_parallel(name: str, engine: Engine, results: Results, times: int) -> None:
    """32 clients at once: the median of one run, divided by the clients per core."""
    samples: list[float] = []

    def client(_: int) -> None:
        connection = RawConnection(engine.socket)
        for _ in range(max(1, times // 10)):
            began = time.perf_counter()
            whole_life(connection)
            samples.append((time.perf_counter() - began) * 1000)
        connection.close()

    with ThreadPoolExecutor(PARALLEL) as clients:
        list(clients.map(client, range(PARALLEL)))
    cores = len(os.sched_getaffinity(0))
    median = statistics.median(samples)
    results.add("API whole life, 32 in parallel", "ms", name, median)
    results.add("the same, per core and client", "ms", name, median * cores / PARALLEL)


def measure_many(name: str, engine: Engine, results: Results, count: int) -> None:
    """Start many idle containers one after another, list them, weigh them, remove them."""
    connection = RawConnection(engine.socket)
    results.add("daemon at rest, RSS", "MB", name, process_rss(engine.pid) / 1e6)
    pss_before, rss_before = engine_memory(engine)
    began = time.perf_counter()
    identities = []
    for _ in range(count):
        identities.append(create(connection, ["sleep", "1000"]))
        start(connection, identities[-1])
    results.add(f"start {count} containers", "s", name, time.perf_counter() - began)
    pss, rss = engine_memory(engine)
    results.add("PSS for each idle container", "MB", name, (pss - pss_before) / count / 1e6)
    results.add("RSS for each idle container", "MB", name, (rss - rss_before) / count / 1e6)
    listing = milliseconds(20, connection.expect, "GET", f"{VERSION}/containers/json")
    results.add(f"API ps of {count}", "ms", name, listing)
    began = time.perf_counter()
    for identity in identities:
        remove(connection, identity)
    results.add(f"remove {count} containers", "s", name, time.perf_counter() - began)
    connection.close()


def measure_command_lines(name: str, engine: Engine, results: Results, times: int) -> None:
    """Whole processes, as a person runs them."""
    variables = environment(engine)
    for column, command in run_commands(name, engine).items():
        for network in ("bridge", "host"):
            whole = [*command, "--network", network, IMAGE, "true"]
            title = f"command line run --rm, {network}"
            results.add(title, "ms", column, milliseconds(times, run_quietly, whole, variables))
        version = [*command[: command.index("run")], "version"]
        median = milliseconds(times, run_quietly, version, variables)
        results.add("command line version", "ms", column, median)


def run_quietly(command: list[str], variables: dict[str, str]) -> None:
    """Run a command that must succeed, without its output."""
    done = subprocess.run(
        command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr[-300:]}")
