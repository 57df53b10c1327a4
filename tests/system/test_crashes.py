"""kill -9 of the daemon, the spawner or a monitor: containers go on, nothing is lost, nothing leaks."""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import load_busybox
from tests.harness.daemon import PrivateDaemon
from tests.harness.kill_points import is_alive, killed_at, wait_until_dead

COUNTER = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done"

# Calls that the daemon makes between a request and its answer; it is killed as it enters each.
DAEMON_POINTS = [
    ("sendmsg", 1),
    ("recvmsg", 1),
    ("mkdir", 1),
    ("mkdir", 2),
    ("openat", 1),
    ("openat", 5),
    ("openat", 12),
    ("pwrite64", 1),
    ("pwrite64", 3),
    ("pwrite64", 6),
    ("setns", 1),
    ("unshare", 1),
    ("sendto", 1),
    ("sendto", 4),
    ("sendto", 9),
    ("write", 1),
    ("unlinkat", 1),
    ("unlink", 1),
    ("rmdir", 1),
    ("pidfd_send_signal", 1),
    ("close", 3),
    ("close", 20),
    ("fsync,fdatasync", 1),
    ("rename,renameat,renameat2", 1),
]

# Calls of a monitor between fork and the workload's start.
MONITOR_POINTS = [
    ("clone3,clone", 1),
    ("mkdir,mkdirat", 1),
    ("openat", 2),
    ("openat", 8),
    ("pipe2", 1),
    ("sendmsg", 1),
    ("write", 1),
    ("splice", 1),
]


@pytest.fixture
def crash_daemon() -> Iterator[PrivateDaemon]:
    with PrivateDaemon() as daemon:
        load_busybox(daemon)
        daemon.docker.out("run", "--rm", "busybox", "true")
        yield daemon


def run_detached(daemon: PrivateDaemon, name: str, *command: str) -> int:
    """Start a container, wait for its monitor to be at work; the process id of its first process."""
    daemon.docker.out("run", "-d", "--name", name, "busybox", *command)
    pid = int(daemon.docker.inspect(name)["State"]["Pid"])
    until(lambda: not is_alive(pid) or find_monitor(pid) is not None, "the monitor has opened the log")
    return pid


def find_monitor(pid: int) -> int | None:
    """The process that has the log of a container's first process open."""
    log = Path(f"/proc/{pid}/cgroup").read_text().split("/")[-1].strip() + "-json.log"
    for entry in Path("/proc").iterdir():
        try:
            if not entry.name.isdigit() or (entry / "comm").read_text() != "seom-monitor\n":
                continue
            if any(os.readlink(file).endswith(log) for file in (entry / "fd").iterdir()):
                return int(entry.name)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return None


def until(condition: Callable[[], bool], what: str, timeout_s: float = 15) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for: {what}"
        select.select([], [], [], 0.02)


def processes_named(daemon: PrivateDaemon, *, children_of: int) -> list[int]:
    """Processes of the instance whose parent is the given one."""
    found = []
    for pid in daemon.children():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(stat[1]) == children_of:
            found.append(pid)
    return found


def spawner_of(daemon: PrivateDaemon) -> int:
    """The daemon's only child."""
    (spawner,) = processes_named(daemon, children_of=daemon.pid)
    return spawner


def monitor_of(pid: int) -> int:
    """The monitor of a running container, given its first process."""
    monitor = find_monitor(pid)
    assert monitor is not None
    return monitor


def log_numbers(daemon: PrivateDaemon, name: str) -> list[int]:
    return [int(line) for line in daemon.docker.out("logs", name).split()]


def test_containers_go_on_through_a_crash_of_the_daemon(crash_daemon: PrivateDaemon) -> None:
    pid = run_detached(crash_daemon, "counter", "sh", "-c", COUNTER)
    crash_daemon.kill9()
    assert is_alive(pid)
    crash_daemon.start()
    state = crash_daemon.docker.inspect("counter")["State"]
    assert (state["Status"], state["Pid"]) == ("running", pid)
    assert crash_daemon.docker.out("exec", "counter", "echo", "exec works") == "exec works"
    seen = len(log_numbers(crash_daemon, "counter"))
    until(lambda: len(log_numbers(crash_daemon, "counter")) > seen + 5, "more lines in the log")
    crash_daemon.docker.out("stop", "-t", "0", "counter")
    numbers = log_numbers(crash_daemon, "counter")
    assert numbers == list(range(len(numbers)))


def test_a_clean_stop_leaves_containers_running(crash_daemon: PrivateDaemon) -> None:
    pid = run_detached(crash_daemon, "container", "sleep", "1000")
    assert crash_daemon.stop() == 0
    assert is_alive(pid)
    crash_daemon.start()
    assert crash_daemon.docker.inspect("container")["State"]["Pid"] == pid


@pytest.mark.parametrize("code", [0, 7])
def test_an_exit_while_the_daemon_is_away_keeps_its_code(crash_daemon: PrivateDaemon, code: int) -> None:
    pid = run_detached(
        crash_daemon,
        "container",
        "sh",
        "-c",
        f"trap 'echo last words; exit {code}' TERM; touch /ready; while :; do sleep 0.02; done",
    )
    crash_daemon.docker.out("exec", "container", "sh", "-c", "until [ -e /ready ]; do usleep 1000; done")
    crash_daemon.kill9()
    os.kill(pid, signal.SIGTERM)
    assert wait_until_dead(pid)
    crash_daemon.start()
    state = crash_daemon.docker.inspect("container")["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", code)
    assert crash_daemon.docker.out("logs", "container") == "last words"


def test_a_restart_policy_is_applied_after_a_crash(crash_daemon: PrivateDaemon) -> None:
    crash_daemon.docker.out(
        "run", "-d", "--name", "container", "--restart", "always", "busybox", "sleep", "1000"
    )
    pid = int(crash_daemon.docker.inspect("container")["State"]["Pid"])
    crash_daemon.kill9()
    os.kill(pid, signal.SIGKILL)
    assert wait_until_dead(pid)
    crash_daemon.start()
    until(lambda: crash_daemon.docker.inspect("container")["State"]["Running"], "the container runs again")
    assert crash_daemon.docker.inspect("container")["State"]["Pid"] != pid


def test_an_attached_client_s_stream_survives_the_daemon(crash_daemon: PrivateDaemon) -> None:
    client = crash_daemon.docker.popen("run", "-i", "--name", "container", "busybox", "cat")
    assert client.stdin is not None and client.stdout is not None
    client.stdin.write(b"before\n")
    client.stdin.flush()
    assert client.stdout.readline() == b"before\n"
    monitors_stream = crash_daemon.docker.inspect("container")["State"]["Pid"]
    crash_daemon.kill9()
    assert is_alive(monitors_stream)
    client.kill()
    client.communicate()
    crash_daemon.start()
    assert crash_daemon.docker.out("logs", "container") == "before"


def test_published_ports_and_names_work_after_a_crash(crash_daemon: PrivateDaemon) -> None:
    docker = crash_daemon.docker
    docker.out("network", "create", "net")
    docker.out(
        *("run", "-d", "--name", "web", "--network", "net", "-p", "127.0.0.1:8080:80"),
        *("busybox", "httpd", "-f", "-h", "/var/www"),
    )
    crash_daemon.kill9()
    fetch = [
        "timeout",
        "20",
        "busybox",
        "sh",
        "-c",
        "until wget -q -O - http://127.0.0.1:8080/index.html; do :; done",
    ]
    assert crash_daemon.network.run(fetch).stdout == "hello from the island\n"
    crash_daemon.start()
    assert crash_daemon.network.run(fetch).stdout == "hello from the island\n"
    script = "until wget -q -O - http://web/index.html; do :; done"
    assert (
        docker.out("run", "--rm", "--network", "net", "busybox", "sh", "-c", script)
        == "hello from the island"
    )


def test_a_crash_of_the_spawner_hurts_nobody(crash_daemon: PrivateDaemon) -> None:
    pid = run_detached(crash_daemon, "counter", "sh", "-c", COUNTER)
    spawner = spawner_of(crash_daemon)
    os.kill(spawner, signal.SIGKILL)
    assert wait_until_dead(spawner)
    assert crash_daemon.docker.out("run", "--rm", "busybox", "echo", "new ones start") == "new ones start"
    state = crash_daemon.docker.inspect("counter")["State"]
    assert (state["Status"], state["Pid"]) == ("running", pid)
    crash_daemon.docker.out("stop", "-t", "0", "counter")
    numbers = log_numbers(crash_daemon, "counter")
    assert numbers == list(range(len(numbers)))


def test_a_crash_of_a_monitor_keeps_the_container_its_log_and_its_exit_code(
    crash_daemon: PrivateDaemon,
) -> None:
    script = f"trap 'exit 6' TERM; {COUNTER}"
    pid = run_detached(crash_daemon, "counter", "sh", "-c", script)
    monitor = monitor_of(pid)
    os.kill(monitor, signal.SIGKILL)
    assert wait_until_dead(monitor)
    assert is_alive(pid)
    seen = len(log_numbers(crash_daemon, "counter"))
    until(lambda: len(log_numbers(crash_daemon, "counter")) > seen + 5, "the log goes on")
    assert crash_daemon.docker.out("exec", "counter", "echo", "exec works") == "exec works"
    os.kill(pid, signal.SIGTERM)
    assert crash_daemon.docker.out("wait", "counter") == "6"
    numbers = log_numbers(crash_daemon, "counter")
    assert numbers == list(range(len(numbers)))


def test_a_monitor_and_the_daemon_killed_together(crash_daemon: PrivateDaemon) -> None:
    pid = run_detached(crash_daemon, "container", "sleep", "1000")
    monitor = monitor_of(pid)
    crash_daemon.kill9()
    os.kill(monitor, signal.SIGKILL)
    assert wait_until_dead(monitor)
    crash_daemon.start()
    state = crash_daemon.docker.inspect("container")["State"]
    assert state["Running"] == is_alive(pid)
    assert (state["Pid"] == pid) == state["Running"]


def test_everything_killed_at_once_leaves_no_trace(crash_daemon: PrivateDaemon) -> None:
    before = crash_daemon.leftovers()
    for number in range(3):
        run_detached(crash_daemon, f"container-{number}", "sleep", "1000")
    pids = list(crash_daemon.children())
    crash_daemon.kill9()
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    crash_daemon.start()
    rows = crash_daemon.docker.out("ps", "-a", "--format", "{{.State}}").split()
    assert rows == ["exited"] * 3
    crash_daemon.remove_containers()
    assert not crash_daemon.wait_for_leftovers(before, processes=False)


@pytest.mark.parametrize(("call", "when"), DAEMON_POINTS, ids=lambda value: str(value).replace(",", "|"))
def test_a_crash_of_the_daemon_at_a_system_call(crash_daemon: PrivateDaemon, call: str, when: int) -> None:
    bystander = run_detached(crash_daemon, "bystander", "sleep", "1000")
    before = crash_daemon.leftovers()
    pid = crash_daemon.pid
    with killed_at(pid, call, when):
        try:
            live_a_life(crash_daemon)
        except (OSError, http.client.HTTPException, AssertionError):
            pass
    if not is_alive(pid):
        crash_daemon.kill9()
        crash_daemon.start()
    check_the_books(crash_daemon, bystander)
    crash_daemon.api.delete("/containers/victim", force="1", v="1")
    assert not crash_daemon.wait_for_leftovers(before, processes=False)
    again = ("--name", "victim", "-p", "127.0.0.1:8085:80", "busybox", "echo", "again")
    assert crash_daemon.docker.out("run", "--rm", *again) == "again"


@pytest.mark.parametrize(("call", "when"), MONITOR_POINTS, ids=lambda value: str(value).replace(",", "|"))
def test_a_crash_of_a_monitor_at_a_system_call(crash_daemon: PrivateDaemon, call: str, when: int) -> None:
    bystander = run_detached(crash_daemon, "bystander", "sleep", "1000")
    before = crash_daemon.leftovers()
    with killed_at(spawner_of(crash_daemon), call, when):
        try:
            live_a_life(crash_daemon)
        except AssertionError:
            pass
    check_the_books(crash_daemon, bystander)
    crash_daemon.api.delete("/containers/victim", force="1", v="1")
    assert not crash_daemon.wait_for_leftovers(before, processes=False)
    again = ("--name", "victim", "-p", "127.0.0.1:8085:80", "busybox", "echo", "again")
    assert crash_daemon.docker.out("run", "--rm", *again) == "again"


def live_a_life(daemon: PrivateDaemon) -> None:
    """Create, start, kill and remove a container with a volume and a port, without asking twice."""
    port = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8085"}]}
    body = {
        "Image": "busybox",
        "Cmd": ["sleep", "1000"],
        "Volumes": {"/data": {}},
        "ExposedPorts": {"80/tcp": {}},
        "HostConfig": {"PortBindings": port},
    }
    connection = daemon.api.connection
    connection.close()
    for method, path, content in (
        ("POST", "/containers/create?name=victim", json.dumps(body)),
        ("POST", "/containers/victim/start", None),
        ("POST", "/containers/victim/kill", None),
        ("POST", "/containers/victim/wait", None),
        ("DELETE", "/containers/victim?v=1", None),
    ):
        connection.request(method, path, content, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status < 300, (path, answer.status)


def false_states(daemon: PrivateDaemon) -> list[dict[str, object]]:
    """The states of containers that say something else than the process table."""
    states = [
        daemon.docker.inspect(row["Id"])["State"] for row in daemon.api.get("/containers/json", all="1")
    ]
    return [each for each in states if each["Running"] != bool(each["Pid"] and is_alive(each["Pid"]))]


def check_the_books(daemon: PrivateDaemon, bystander: int) -> None:
    """What the daemon says of its containers is true."""
    assert is_alive(bystander)
    state = daemon.docker.inspect("bystander")["State"]
    assert (state["Running"], state["Pid"]) == (True, bystander)
    # Without its parent, the spawner, an end is known once the host's init has reaped the process.
    until(lambda: not false_states(daemon), "the state of every container is true")


def test_a_truncated_database_gives_a_clear_error(crash_daemon: PrivateDaemon) -> None:
    crash_daemon.stop()
    database = crash_daemon.data_root / "seom.db"
    content = database.read_bytes()
    database.write_bytes(content[: len(content) // 2])
    with pytest.raises(AssertionError, match=r"ended with 1 before it listened[\s\S]*cannot be used"):
        crash_daemon.start()
    database.write_bytes(content)
    crash_daemon.start()
    assert crash_daemon.docker.out("run", "--rm", "busybox", "echo", "well") == "well"


def test_a_second_daemon_on_the_same_data_is_refused(crash_daemon: PrivateDaemon) -> None:
    done = crash_daemon.network.run(
        [
            *(Path(".venv/bin/seomd").absolute(), "--data-root", crash_daemon.data_root),
            *(
                "--run-dir",
                crash_daemon.directory / "other",
                "--host",
                f"unix://{crash_daemon.directory}/other.sock",
            ),
        ],
        timeout=30,
    )
    assert done.returncode == 1
    assert re.search("another seomd uses", done.stderr)
