"""docker create, start, stop, restart, kill, pause, rm, wait, rename, ps, inspect, top, events."""

from __future__ import annotations

import json
import re
import signal

import pytest

from tests.harness.docker_cli import DockerCli

SLEEP = ("busybox", "sleep", "1000")


def state(docker: DockerCli, name: str) -> str:
    return str(docker.inspect(name)["State"]["Status"])


def test_create_then_start_attached(docker: DockerCli, name: str) -> None:
    docker.out("create", "-i", "--name", name, "busybox", "sh", "-c", "cat; exit 5")
    assert state(docker, name) == "created"
    done = docker("start", "-a", "-i", name, input="typed\n")
    assert (done.returncode, done.stdout) == (5, "typed\n")


def test_start_prints_the_name_and_is_idempotent(docker: DockerCli, name: str) -> None:
    docker.out("create", "--name", name, *SLEEP)
    assert docker.out("start", name) == name
    assert docker.out("start", name) == name
    assert state(docker, name) == "running"


def test_stop_sends_the_stop_signal_and_then_kills(docker: DockerCli, name: str) -> None:
    script = "trap 'exit 9' USR1; touch /ready; while :; do sleep 0.05; done"
    docker.out("run", "-d", "--name", name, "--stop-signal", "USR1", "busybox", "sh", "-c", script)
    docker.out("exec", name, "sh", "-c", "until [ -e /ready ]; do usleep 1000; done")
    docker.out("stop", name)
    assert docker.inspect(name)["State"]["ExitCode"] == 9
    docker.out("run", "-d", "--name", f"{name}-2", "--stop-timeout", "1", *SLEEP)
    docker.out("stop", f"{name}-2")
    assert docker.inspect(f"{name}-2")["State"]["ExitCode"] == 137


def test_stop_of_a_stopped_container_is_no_error(docker: DockerCli, name: str) -> None:
    docker.out("run", "--name", name, "busybox", "true")
    assert docker.out("stop", name) == name


def test_restart_starts_a_new_process(docker: DockerCli, name: str) -> None:
    docker.out("run", "-d", "--name", name, *SLEEP)
    before = docker.inspect(name)["State"]
    docker.out("restart", "-t", "0", name)
    after = docker.inspect(name)["State"]
    assert after["Running"] is True
    assert after["Pid"] != before["Pid"]
    assert after["StartedAt"] > before["StartedAt"]


def test_files_survive_a_restart(docker: DockerCli, name: str) -> None:
    docker.out("run", "--name", name, "busybox", "sh", "-c", "test -e /kept && exit 3; touch /kept")
    assert docker("start", "-a", name).returncode == 3


@pytest.mark.parametrize("sent", ["KILL", "9", "SIGKILL"])
def test_kill_takes_names_and_numbers(docker: DockerCli, name: str, sent: str) -> None:
    docker.out("run", "-d", "--name", name, *SLEEP)
    docker.out("kill", "-s", sent, name)
    assert docker.out("wait", name) == "137"


def test_kill_of_a_stopped_container_is_a_conflict(docker: DockerCli, name: str) -> None:
    docker.out("create", "--name", name, *SLEEP)
    done = docker("kill", name)
    assert done.returncode == 1
    assert "is not running" in done.stderr


def test_wait_prints_the_exit_code(docker: DockerCli, name: str) -> None:
    docker.out("run", "-d", "--name", name, "busybox", "sh", "-c", "sleep 0.3; exit 4")
    assert docker.out("wait", name) == "4"
    assert docker.out("wait", name) == "4"


def test_pause_freezes_and_unpause_thaws(docker: DockerCli, name: str) -> None:
    docker.out("run", "-d", "--name", name, *SLEEP)
    docker.out("pause", name)
    assert state(docker, name) == "paused"
    assert docker.out("ps", "--filter", f"name={name}", "--format", "{{.Status}}").endswith("(Paused)")
    done = docker("exec", name, "true")
    assert done.returncode == 1
    assert "is paused, unpause the container before exec" in done.stderr
    docker.out("unpause", name)
    assert state(docker, name) == "running"
    assert docker.out("exec", name, "echo", "alive") == "alive"


def test_rm_refuses_a_running_container_without_force(docker: DockerCli, name: str) -> None:
    docker.out("run", "-d", "--name", name, *SLEEP)
    done = docker("rm", name)
    assert done.returncode == 1
    assert "container is running: stop the container before removing or force remove" in done.stderr
    assert docker.out("rm", "-f", name) == name


def test_what_is_not_there_is_named(docker: DockerCli) -> None:
    for verb in ("start", "stop", "kill", "rm", "wait", "logs", "restart"):
        done = docker(verb, "nobody-here")
        assert done.returncode == 1, verb
        assert "No such container: nobody-here" in done.stderr, verb


def test_rename(docker: DockerCli, name: str) -> None:
    docker.out("run", "-d", "--name", name, *SLEEP)
    docker.out("rename", name, f"{name}-new")
    assert docker.inspect(f"{name}-new")["Name"] == f"/{name}-new"
    assert docker("inspect", name).returncode == 1


def test_an_id_may_be_shortened_while_it_is_unique(docker: DockerCli) -> None:
    identity = docker.out("create", *SLEEP)
    assert docker.inspect(identity[:7])["Id"] == identity


@pytest.mark.parametrize("bad", ["-a", "a", "a b", "a/b", "ä1"])
def test_bad_names_are_refused(docker: DockerCli, bad: str) -> None:
    done = docker("create", f"--name={bad}", *SLEEP)
    assert done.returncode == 1
    assert "Invalid container name" in done.stderr


def test_ps_lists_running_containers_and_all_with_a(docker: DockerCli, name: str) -> None:
    running = docker.out("run", "-d", "--name", f"{name}-1", *SLEEP)
    assert docker("run", "--name", f"{name}-2", "busybox", "sh", "-c", "exit 3").returncode == 3
    assert docker.out("ps", "-q") == running[:12]
    assert docker.out("ps", "-q", "--no-trunc") == running
    rows = dict(
        line.split("|") for line in docker.out("ps", "-a", "--format", "{{.Names}}|{{.Status}}").splitlines()
    )
    assert rows[f"{name}-1"].startswith("Up ")
    assert re.fullmatch(r"Exited \(3\) .* ago", rows[f"{name}-2"])


def test_ps_filters(docker: DockerCli, name: str) -> None:
    one = docker.out("run", "-d", "--name", f"{name}-one", "-l", "color=red", *SLEEP)
    two = docker.out("create", "--name", f"{name}-two", "-l", "color=blue", "-v", f"{name}:/data", *SLEEP)
    three = docker.out("run", "-d", "--name", f"{name}-three", "busybox", "sh", "-c", "exit 2")
    docker.out("wait", three)

    def ids(*filters: str) -> set[str]:
        options = [option for each in filters for option in ("--filter", each)]
        return set(docker.out("ps", "-aq", "--no-trunc", *options).split())

    try:
        assert ids(f"name={name}-one") == {one}
        assert ids(f"id={two[:12]}") == {two}
        assert ids("label=color") == {one, two}
        assert ids("label=color=blue") == {two}
        assert ids("status=running") == {one}
        assert ids("status=created", "status=exited") == {two, three}
        assert ids("exited=2") == {three}
        assert ids(f"before={two}") == {one}
        assert ids(f"since={two}") == {three}
        assert ids("ancestor=busybox") == {one, two, three}
        assert ids(f"volume={name}") == {two}
        assert ids("network=bridge") == {one, two, three}
        done = docker("ps", "--filter", "nonsense=1")
        assert done.returncode == 1
        assert "invalid filter 'nonsense'" in done.stderr
    finally:
        docker.out("rm", "-f", two)
        docker.out("volume", "rm", name)


def test_ps_with_n_latest_and_size(docker: DockerCli, name: str) -> None:
    docker.out("run", "--name", f"{name}-1", "busybox", "sh", "-c", "head -c 1000 /dev/zero > /file")
    docker.out("create", "--name", f"{name}-2", *SLEEP)
    assert docker.out("ps", "-l", "--format", "{{.Names}}") == f"{name}-2"
    assert docker.out("ps", "-n", "2", "--format", "{{.Names}}").splitlines() == [f"{name}-2", f"{name}-1"]
    sizes = docker.out("ps", "-a", "-s", "--filter", f"name={name}-1", "--format", "{{.Size}}")
    assert re.match(r"1(\.\d+)?kB \(virtual .*MB\)", sizes)


def test_inspect_has_the_members_that_tools_read(docker: DockerCli, name: str) -> None:
    docker.out("run", "-d", "--name", name, "-e", "A=b", *SLEEP)
    found = docker.inspect(name)
    assert {
        *("Id", "Created", "Path", "Args", "State", "Image", "ResolvConfPath", "HostnamePath", "HostsPath"),
        *("LogPath", "Name", "RestartCount", "Driver", "Platform", "MountLabel", "ProcessLabel"),
        *("AppArmorProfile", "ExecIDs", "HostConfig", "GraphDriver", "Mounts", "Config", "NetworkSettings"),
    } <= set(found)
    assert (found["Path"], found["Args"]) == ("sleep", ["1000"])
    assert found["State"]["Running"] is True
    assert found["State"]["Pid"] > 0
    assert found["Image"].startswith("sha256:")
    assert "A=b" in found["Config"]["Env"]
    assert docker.out("inspect", "--format", "{{.State.Status}} {{json .Config.Cmd}}", name) == (
        'running ["sleep","1000"]'
    )
    assert "SizeRw" in json.loads(docker.out("inspect", "--size", name))[0]


def test_top_shows_the_processes(docker: DockerCli, name: str) -> None:
    docker.out("run", "-d", "--name", name, *SLEEP)
    lines = docker.out("top", name).splitlines()
    assert lines[0].split()[:2] == ["UID", "PID"]
    assert lines[1].endswith("sleep 1000")
    assert docker.out("top", name, "-o", "pid,comm").splitlines()[1].split()[1] == "sleep"


def test_events_tell_the_story_of_a_container(docker: DockerCli, name: str) -> None:
    since = docker.out("run", "--rm", "busybox", "date", "+%s")
    docker.out("run", "--name", name, "busybox", "true")
    docker.out("rm", name)
    until = str(int(docker.out("run", "--rm", "busybox", "date", "+%s")) + 1)
    text = docker.out(
        *(
            "events",
            "--since",
            since,
            "--until",
            until,
            "--filter",
            f"container={name}",
            "--format",
            "{{.Action}}",
        )
    )
    actions = [action for action in text.splitlines() if action != "attach"]
    assert actions == ["create", "start", "die", "destroy"]


def test_container_prune_removes_the_stopped_ones(docker: DockerCli, name: str) -> None:
    stopped = docker.out("create", "--name", f"{name}-1", "-l", f"{name}=1", *SLEEP)
    docker.out("run", "-d", "--name", f"{name}-2", "-l", f"{name}=1", *SLEEP)
    text = docker.out("container", "prune", "-f", "--filter", f"label={name}")
    assert stopped in text
    assert "Total reclaimed space" in text
    assert docker.out("ps", "-a", "--filter", f"label={name}", "--format", "{{.Names}}") == f"{name}-2"


def test_restart_on_failure_gives_up_after_its_count(docker: DockerCli, name: str) -> None:
    docker.out(
        "run", "-d", "--name", name, "--restart", "on-failure:2", "busybox", "sh", "-c", "echo ran; exit 1"
    )
    client = docker.popen("events", "--filter", f"container={name}", "--filter", "event=die", "--since", "0")
    assert client.stdout is not None
    for _ in range(3):
        assert client.stdout.readline()
    client.send_signal(signal.SIGINT)
    client.communicate()
    assert docker.out("wait", name) == "1"
    found = docker.inspect(name)
    assert (found["RestartCount"], found["State"]["Status"]) == (2, "exited")
    assert docker.out("logs", name).splitlines() == ["ran"] * 3


def test_restart_always_starts_again_and_stop_ends_it(docker: DockerCli, name: str) -> None:
    docker.out(
        "run", "-d", "--name", name, "--restart", "always", "busybox", "sh", "-c", "echo ran; sleep 0.1"
    )
    client = docker.popen(
        "events", "--filter", f"container={name}", "--filter", "event=start", "--since", "0"
    )
    assert client.stdout is not None
    for _ in range(3):
        assert client.stdout.readline()
    client.kill()
    client.communicate()
    docker.out("stop", "-t", "0", name)
    assert state(docker, name) == "exited"
    assert docker.out("logs", name).splitlines()[:2] == ["ran", "ran"]


def test_restart_and_rm_exclude_each_other(docker: DockerCli) -> None:
    done = docker("run", "--rm", "--restart", "always", "busybox", "true")
    assert done.returncode == 125
    assert "conflicting options" in done.stderr


def test_a_health_check_turns_healthy_and_unhealthy(docker: DockerCli, name: str) -> None:
    docker.out(
        *("run", "-d", "--name", name, "--health-cmd", "test -e /ok", "--health-interval", "100ms"),
        *("--health-retries", "2", "--health-timeout", "5s", "busybox", "sh", "-c", "touch /ok; sleep 1000"),
    )
    client = docker.popen(
        "events", "--filter", f"container={name}", "--filter", "event=health_status", "--since", "0"
    )
    assert client.stdout is not None
    assert b"health_status: healthy" in client.stdout.readline()
    health = docker.inspect(name)["State"]["Health"]
    assert (health["Status"], health["FailingStreak"], health["Log"][-1]["ExitCode"]) == ("healthy", 0, 0)
    assert "(healthy)" in docker.out("ps", "--filter", "health=healthy", "--format", "{{.Status}}")
    docker.out("exec", name, "rm", "/ok")
    assert b"health_status: unhealthy" in client.stdout.readline()
    assert docker.inspect(name)["State"]["Health"]["Status"] == "unhealthy"
    client.kill()
    client.communicate()
