"""docker exec: a second process in a running container."""

from __future__ import annotations

import pytest

from tests.harness.docker_cli import DockerCli


@pytest.fixture
def running(docker: DockerCli, name: str) -> str:
    docker.out("run", "-d", "--name", name, "-e", "FROM_RUN=1", "-w", "/var", "busybox", "sleep", "1000")
    return name


def test_streams_and_exit_code(docker: DockerCli, running: str) -> None:
    done = docker("exec", running, "sh", "-c", "echo out; echo err >&2; exit 6")
    assert (done.returncode, done.stdout, done.stderr) == (6, "out\n", "err\n")


def test_stdin_is_passed_with_i(docker: DockerCli, running: str) -> None:
    assert docker.out("exec", "-i", running, "cat", input="through\n") == "through"
    assert docker.out("exec", running, "cat") == ""


def test_the_environment_and_directory_of_the_container_are_inherited(
    docker: DockerCli, running: str
) -> None:
    assert docker.out("exec", running, "sh", "-c", "echo $FROM_RUN; pwd") == "1\n/var"
    assert docker.out("exec", "-e", "B=2", "-w", "/tmp", running, "sh", "-c", "echo $B; pwd") == "2\n/tmp"


def test_another_user(docker: DockerCli, running: str) -> None:
    assert docker.out("exec", "-u", "daemon", running, "id", "-un") == "daemon"


def test_privileged_has_more_capabilities(docker: DockerCli, running: str) -> None:
    def effective(*options: str) -> int:
        text = docker.out("exec", *options, running, "grep", "CapEff", "/proc/self/status")
        return int(text.split()[1], 16)

    assert effective("--privileged") & ~effective()


def test_it_runs_in_the_same_namespaces_and_root(docker: DockerCli, running: str) -> None:
    script = "for n in cgroup ipc mnt net pid uts; do readlink /proc/$0/ns/$n; done"
    assert docker.out("exec", running, "sh", "-c", script, "1") == docker.out(
        "exec", running, "sh", "-c", script, "self"
    )
    docker.out("exec", running, "touch", "/made")
    assert docker.out("exec", running, "ls", "/made") == "/made"


def test_it_counts_against_the_same_limits(docker: DockerCli, running: str) -> None:
    groups = docker.out(
        "exec", running, "sh", "-c", "cat /proc/1/cgroup > /tmp/a; diff /tmp/a /proc/self/cgroup && echo same"
    )
    assert groups == "same"


def test_detached_returns_at_once(docker: DockerCli, running: str) -> None:
    assert docker.out("exec", "-d", running, "sh", "-c", "sleep 0.1; touch /tmp/done") == ""
    docker.out("exec", running, "sh", "-c", "until test -e /tmp/done; do sleep 0.05; done")


def test_a_terminal(docker: DockerCli, running: str) -> None:
    terminal = docker.terminal("exec", "-it", running, "sh")
    terminal.expect("# ")
    terminal.type("tty; echo $((40+2))\n")
    terminal.expect("/dev/pts/")
    terminal.expect("42")
    terminal.type("exit 3\n")
    assert terminal.wait() == 3


def test_a_missing_command_exits_127_and_one_that_cannot_run_126(docker: DockerCli, running: str) -> None:
    done = docker("exec", running, "no-such-command")
    assert done.returncode == 127
    assert 'exec: "no-such-command": executable file not found in $PATH' in done.stdout + done.stderr
    assert docker("exec", running, "/etc/passwd").returncode == 126


def test_a_killed_process_exits_137(docker: DockerCli, running: str) -> None:
    assert docker("exec", running, "sh", "-c", "kill -9 $$").returncode == 137


def test_exec_in_a_stopped_container_is_refused(docker: DockerCli, name: str) -> None:
    identity = docker.out("create", "--name", name, "busybox", "true")
    done = docker("exec", name, "true")
    assert done.returncode == 1
    assert f"container {identity} is not running" in done.stderr


def test_the_end_of_the_container_ends_its_execs(docker: DockerCli, running: str) -> None:
    client = docker.popen("exec", running, "sh", "-c", "echo on; sleep 1000")
    assert client.stdout is not None
    assert client.stdout.readline() == b"on\n"
    docker.out("kill", running)
    assert client.wait(20) == 137


def test_execs_are_listed_while_they_run(docker: DockerCli, running: str) -> None:
    client = docker.popen("exec", running, "sh", "-c", "echo on; sleep 1000")
    assert client.stdout is not None
    assert client.stdout.readline() == b"on\n"
    assert len(docker.inspect(running)["ExecIDs"]) == 1
    client.kill()
    client.communicate()
