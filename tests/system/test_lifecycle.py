"""Start, stop, restart policies, health checks: through the API and the docker command line."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.harness.daemon import PrivateDaemon
from tests.harness.docker_cli import DockerCli
from tests.harness.http_client import ApiClient, UnixConnection


class EventReader:
    """The daemon's events from now on; expect() waits for one."""

    def __init__(self, daemon: PrivateDaemon, **filters: str) -> None:
        self._connection = UnixConnection(daemon.socket)
        query = json.dumps({key: [value] for key, value in filters.items()}).replace(" ", "")
        self._connection.request("GET", f"/events?filters={query}".replace('"', "%22"))
        self._response = self._connection.getresponse()

    def expect(self, action: str) -> dict[str, Any]:
        """The next event with this action; fails when none comes within the socket's timeout."""
        while True:
            event: dict[str, Any] = json.loads(self._response.readline())
            if event["Action"] == action:
                return event

    def close(self) -> None:
        self._connection.close()


def run_trap(docker: DockerCli, name: str, trap: str, *options: str) -> None:
    """Run a shell that handles a signal; returns once it does (pid 1 has no default actions)."""
    script = f"trap {trap}; touch /ready; while :; do sleep 60 & wait; done"
    docker.out("run", "-d", "--name", name, *options, "busybox", "sh", "-c", script)
    docker.out("exec", name, "sh", "-c", "until [ -e /ready ]; do usleep 1000; done")


def test_stop_asks_first_and_the_exit_code_is_the_programs_own(docker: DockerCli, name: str) -> None:
    run_trap(docker, name, "'exit 3' TERM")
    assert docker.out("stop", name) == name
    assert docker.inspect(name)["State"]["ExitCode"] == 3


def test_stop_kills_what_ignores_the_signal(docker: DockerCli, name: str) -> None:
    run_trap(docker, name, "'' TERM")
    docker.out("stop", "-t", "0", name)
    state = docker.inspect(name)["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 137)


def test_the_stop_signal_of_the_container_is_used(docker: DockerCli, name: str) -> None:
    run_trap(docker, name, "'exit 7' USR1", "--stop-signal", "USR1")
    docker.out("stop", name)
    assert docker.inspect(name)["State"]["ExitCode"] == 7


def test_starting_a_running_container_changes_nothing(api: ApiClient, docker: DockerCli, name: str) -> None:
    docker.out("run", "-d", "--name", name, "busybox", "sleep", "60")
    before = docker.inspect(name)["State"]["Pid"]
    assert api.post(f"/containers/{name}/start").status == 304
    assert docker.inspect(name)["State"]["Pid"] == before


def test_a_restarted_container_keeps_its_files(docker: DockerCli, name: str) -> None:
    docker.out("run", "-d", "--name", name, "busybox", "sh", "-c", "echo x >> /count; sleep 60")
    docker.out("restart", "-t", "0", name)
    docker.out("exec", name, "sh", "-c", "until [ $(wc -l < /count) = 2 ]; do usleep 10000; done")


def test_on_failure_restarts_as_often_as_asked(daemon: PrivateDaemon, docker: DockerCli, name: str) -> None:
    events = EventReader(daemon, container=name)
    docker.out("run", "-d", "--name", name, "--restart", "on-failure:2", "busybox", "sh", "-c", "exit 5")
    codes = [events.expect("die")["Actor"]["Attributes"]["exitCode"] for _ in range(3)]
    events.close()
    assert codes == ["5", "5", "5"]
    assert docker.out("wait", name) == "5"
    document = docker.inspect(name)
    assert (document["RestartCount"], document["State"]["Status"]) == (2, "exited")


def test_a_stopped_container_is_not_restarted(docker: DockerCli, name: str) -> None:
    docker.out("run", "-d", "--name", name, "--restart", "always", "busybox", "sleep", "60")
    docker.out("stop", "-t", "0", name)
    assert docker.out("wait", name) == "137"
    assert docker.inspect(name)["State"]["Status"] == "exited"


def test_health_goes_from_starting_to_healthy_to_unhealthy(
    daemon: PrivateDaemon, docker: DockerCli, name: str
) -> None:
    events = EventReader(daemon, container=name)
    docker.out(
        *("run", "-d", "--name", name, "--health-cmd", "test -e /ok && echo fine"),
        *("--health-interval", "100ms", "--health-retries", "2", "busybox"),
        *("sh", "-c", "touch /ok; sleep 60"),
    )
    events.expect("health_status: healthy")
    assert "(healthy)" in docker.out("ps", "--filter", f"name={name}", "--format", "{{.Status}}")
    docker.out("exec", name, "rm", "/ok")
    events.expect("health_status: unhealthy")
    events.close()
    health = docker.inspect(name)["State"]["Health"]
    assert health["Status"] == "unhealthy"
    assert health["FailingStreak"] >= 2
    assert {entry["ExitCode"] for entry in health["Log"]} <= {0, 1}


def test_a_health_check_that_hangs_is_ended(daemon: PrivateDaemon, docker: DockerCli, name: str) -> None:
    events = EventReader(daemon, container=name)
    docker.out(
        *("run", "-d", "--name", name, "--health-cmd", "sleep 50", "--health-interval", "50ms"),
        *("--health-timeout", "100ms", "--health-retries", "1", "busybox", "sleep", "60"),
    )
    events.expect("health_status: unhealthy")
    events.close()
    assert "exceeded timeout" in docker.inspect(name)["State"]["Health"]["Log"][-1]["Output"]


def test_pause_stops_the_clock_of_every_process(docker: DockerCli, name: str) -> None:
    docker.out("run", "-d", "--name", name, "busybox", "sleep", "60")
    docker.out("pause", name)
    assert docker.inspect(name)["State"]["Status"] == "paused"
    refused = docker("exec", name, "true")
    assert refused.returncode == 1
    assert "is paused, unpause the container before exec" in refused.stderr
    docker.out("unpause", name)
    docker.out("exec", name, "true")


def test_a_paused_container_can_be_stopped(docker: DockerCli, name: str) -> None:
    docker.out("run", "-d", "--name", name, "busybox", "sleep", "60")
    docker.out("pause", name)
    docker.out("stop", "-t", "0", name)
    assert docker.inspect(name)["State"]["Status"] == "exited"


def test_rename_takes_effect_at_once_and_keeps_names_unique(docker: DockerCli, name: str) -> None:
    docker.out("create", "--name", name, "busybox", "true")
    docker.out("create", "--name", f"{name}-b", "busybox", "true")
    taken = docker("rename", name, f"{name}-b")
    assert taken.returncode == 1
    assert "is already in use by container" in taken.stderr
    docker.out("rename", name, f"{name}-c")
    assert docker.inspect(f"{name}-c")["Name"] == f"/{name}-c"
    assert docker("inspect", name).returncode == 1


def test_update_changes_limits_of_a_running_container(docker: DockerCli, name: str) -> None:
    docker.out("run", "-d", "--name", name, "-m", "64m", "busybox", "sleep", "60")
    docker.out("update", "--memory", "128m", "--memory-swap", "256m", "--pids-limit", "77", name)
    host = docker.inspect(name)["HostConfig"]
    assert (host["Memory"], host["PidsLimit"]) == (128 << 20, 77)


@pytest.mark.parametrize("condition", ["not-running", "next-exit", "removed"])
def test_wait_answers_when_its_condition_is_met(
    daemon: PrivateDaemon, docker: DockerCli, name: str, condition: str
) -> None:
    run_trap(docker, name, "'exit 4' TERM", "--rm")
    answers: list[Any] = []
    asked = threading.Event()

    def wait() -> None:
        connection = UnixConnection(daemon.socket)
        connection.request("POST", f"/containers/{name}/wait?condition={condition}")
        response = connection.getresponse()
        asked.set()
        answers.append(json.loads(response.read()))
        connection.close()

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert asked.wait(10)
    docker.out("stop", name)
    waiter.join(20)
    assert answers == [{"StatusCode": 4}]


def test_a_container_started_with_rm_is_gone_with_its_anonymous_volumes(docker: DockerCli, name: str) -> None:
    before = set(docker.out("volume", "ls", "-q").split())
    docker.out("run", "--rm", "--name", name, "-v", "/data", "busybox", "touch", "/data/x")
    assert docker("inspect", name).returncode == 1
    assert set(docker.out("volume", "ls", "-q").split()) == before


@pytest.mark.parametrize(
    ("filters", "shown"),
    [
        (lambda name: ["name=" + name], True),
        (lambda name: ["label=kind=test"], True),
        (lambda name: ["label=kind=other"], False),
        (lambda name: ["status=exited"], True),
        (lambda name: ["status=running"], False),
        (lambda name: ["exited=9"], True),
        (lambda name: ["ancestor=busybox"], True),
        (lambda name: ["expose=8080/tcp"], True),
        (lambda name: ["expose=9090/tcp"], False),
    ],
)
def test_ps_filters(docker: DockerCli, name: str, filters: Callable[[str], list[str]], shown: bool) -> None:
    docker("run", "--name", name, "--label", "kind=test", "--expose", "8080", "busybox", "sh", "-c", "exit 9")
    arguments = [word for text in filters(name) for word in ("--filter", text)]
    assert (name in docker.out("ps", "-a", *arguments, "--format", "{{.Names}}").split()) is shown


def test_joining_a_pid_namespace_does_not_draw_later_containers_into_it(docker: DockerCli, name: str) -> None:
    docker.out("run", "-d", "--name", name, "busybox", "sleep", "1000")
    for _ in range(4):
        docker.out("run", "--rm", "--pid", f"container:{name}", "busybox", "true")
    for number in range(4):
        docker.out("run", "-d", "--name", f"{name}-{number}", "busybox", "sleep", "4242")
    assert "4242" not in docker.out("exec", name, "ps")
    docker.out("rm", "-f", name)
    for _ in range(4):
        assert docker.out("run", "--rm", "busybox", "sh", "-c", "echo $$") == "1"
