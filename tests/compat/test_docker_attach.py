"""docker attach and interactive runs: terminals, detach keys, window sizes, half-closed input."""

from __future__ import annotations

import select

import pytest

from tests.harness.docker_cli import DockerCli

DETACH = b"\x10\x11"


def test_an_interactive_terminal(docker: DockerCli) -> None:
    terminal = docker.terminal("run", "--rm", "-it", "busybox", "sh")
    terminal.expect("/ # ")
    terminal.type("echo $((6*7)); test -t 0 && echo is a tty\n")
    terminal.expect("42")
    terminal.expect("is a tty")
    terminal.type("exit 4\n")
    assert terminal.wait() == 4


def test_ctrl_c_interrupts_the_foreground_process_alone(docker: DockerCli) -> None:
    terminal = docker.terminal("run", "--rm", "-it", "busybox", "sh")
    terminal.expect("/ # ")
    terminal.type("sh -c 'echo st''arted; sleep 1000'\n")
    terminal.expect("started")
    terminal.type("\x03")
    terminal.expect("/ # ")
    terminal.type("echo code $?\n")
    terminal.expect("code 130")
    terminal.type("\x04")
    terminal.wait()


def test_the_detach_keys_leave_it_running_and_attach_returns(docker: DockerCli, name: str) -> None:
    terminal = docker.terminal("run", "-it", "--name", name, "busybox", "sh")
    terminal.expect("/ # ")
    terminal.type(DETACH)
    assert terminal.wait() == 0
    assert docker.inspect(name)["State"]["Running"] is True
    again = docker.terminal("attach", name)
    again.type("echo back again\n")
    again.expect("back again\r\n")
    again.type("exit\n")
    assert again.wait() == 0
    assert docker.inspect(name)["State"]["Status"] == "exited"


def test_own_detach_keys(docker: DockerCli, name: str) -> None:
    terminal = docker.terminal("run", "-it", "--detach-keys", "ctrl-a,x", "--name", name, "busybox", "sh")
    terminal.expect("/ # ")
    terminal.type(b"\x01x")
    terminal.wait()
    assert docker.inspect(name)["State"]["Running"] is True


def test_the_window_size_follows(docker: DockerCli) -> None:
    terminal = docker.terminal("run", "--rm", "-it", "busybox", "sh")
    terminal.expect("/ # ")
    terminal.resize(33, 97)
    terminal.type("until stty size | grep '33 97'; do sleep 0.05; done; echo resized\n")
    terminal.expect("33 97\r\n")
    terminal.expect("resized\r\n")
    terminal.type("exit\n")
    terminal.wait()


def test_attach_shows_output_and_the_exit_code(docker: DockerCli, name: str) -> None:
    docker.out("run", "-d", "-i", "--name", name, "busybox", "sh", "-c", "read line; echo got $line; exit 8")
    client = docker.popen("attach", name)
    assert client.stdin is not None and client.stdout is not None
    client.stdin.write(b"this\n")
    client.stdin.flush()
    assert client.stdout.read() == b"got this\n"
    assert client.wait(20) == 8


def test_two_clients_see_the_same_output(docker: DockerCli, name: str) -> None:
    script = "while read line && test $line != go; do echo $line; done; seq 1 1000"
    docker.out("run", "-d", "-i", "--name", name, "busybox", "sh", "-c", script)
    watcher = docker.popen("attach", "--no-stdin", name)
    feeder = docker.popen("attach", name)
    assert feeder.stdin is not None and feeder.stdout is not None and watcher.stdout is not None
    while not select.select([watcher.stdout], [], [], 0.05)[0]:
        feeder.stdin.write(b"ready\n")
        feeder.stdin.flush()
    feeder.stdin.write(b"go\n")
    feeder.stdin.flush()
    expected = "".join(f"{number}\n" for number in range(1, 1001)).encode()
    assert feeder.stdout.read().replace(b"ready\n", b"") == expected
    assert watcher.stdout.read().replace(b"ready\n", b"") == expected


def test_output_goes_on_after_the_input_has_ended(docker: DockerCli) -> None:
    text = docker.out(
        "run", "--rm", "-i", "busybox", "sh", "-c", "wc -c; sleep 0.2; echo after", input="12345"
    )
    assert text.split() == ["5", "after"]


def test_a_large_amount_of_data_goes_through_both_ways(docker: DockerCli) -> None:
    sent = "".join(f"{number:07d}\n" for number in range(500_000))
    assert docker("run", "--rm", "-i", "busybox", "cat", input=sent).stdout == sent


def test_a_signal_to_attach_is_passed_on(docker: DockerCli, name: str) -> None:
    script = "trap 'echo got term; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    client = docker.popen("run", "--name", name, "busybox", "sh", "-c", script)
    assert client.stdout is not None
    assert client.stdout.readline() == b"ready\n"
    client.terminate()
    assert client.stdout.read() == b"got term\n"
    assert client.wait(20) == 9


def test_attaching_to_a_stopped_container_is_refused(docker: DockerCli, name: str) -> None:
    docker.out("create", "--name", name, "busybox", "true")
    done = docker("attach", name)
    assert done.returncode == 1
    assert "cannot attach to a stopped container, start it first" in done.stderr.lower()


@pytest.mark.parametrize("option", ["stdout", "stderr"])
def test_only_the_streams_asked_for_are_attached(docker: DockerCli, option: str) -> None:
    done = docker("run", "--rm", "-a", option, "busybox", "sh", "-c", "echo stdout; echo stderr >&2")
    assert done.stdout + done.stderr == f"{option}\n"
