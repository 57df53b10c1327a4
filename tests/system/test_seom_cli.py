"""Seom's command line with a whole daemon: streams, terminals, signals, exit codes, files."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import tarfile
import termios
from pathlib import Path

import pytest

from tests.harness.daemon import PrivateDaemon
from tests.harness.seom_cli import SeomCli


@pytest.fixture
def seom(daemon: PrivateDaemon, tmp_path: Path) -> SeomCli:
    return SeomCli(daemon.socket, tmp_path / "config")


def test_run_keeps_stdout_stderr_and_the_exit_code_apart(seom: SeomCli) -> None:
    done = seom("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


@pytest.mark.parametrize(("command", "code"), [("nonexistent", 127), ("/etc", 126)])
def test_a_command_that_cannot_start_has_the_shells_code(seom: SeomCli, command: str, code: int) -> None:
    done = seom("run", "--rm", "busybox", command)
    assert done.returncode == code
    assert done.stderr.startswith("seom: Error response from daemon: ")
    assert done.stderr.endswith("\n\nRun 'seom run --help' for more information\n")


def test_a_killed_process_has_128_and_the_signals_number(seom: SeomCli, name: str) -> None:
    process = seom.popen("run", "--rm", "--name", name, "busybox", "sh", "-c", "echo ready; exec sleep 1000")
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    assert seom.out("kill", name) == name
    process.communicate(timeout=30)
    assert process.returncode == 137


def test_a_refused_request_has_code_125(seom: SeomCli) -> None:
    done = seom("run", "--rm", "--name", "-wrong", "busybox", "true")
    assert done.returncode == 125
    assert "Invalid container name (-wrong)" in done.stderr


def test_stdin_is_passed_on_and_its_end_too(seom: SeomCli) -> None:
    text = "a line\n" * 50_000
    done = seom("run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo end", input=text)
    assert done.stdout == text + "end\n"


def test_detached_prints_the_id_and_logs_have_the_output(seom: SeomCli, name: str) -> None:
    identity = seom.out("run", "-d", "--name", name, "busybox", "sh", "-c", "echo one; echo two >&2")
    assert seom.out("wait", name) == "0"
    assert seom.out("inspect", "-f", "{{.Id}}", name) == identity
    done = seom("logs", name)
    assert (done.stdout, done.stderr) == ("one\n", "two\n")
    assert seom.out("logs", "--tail", "0", name) == ""
    assert seom("logs", "-t", name).stdout.partition(" ")[2] == "one\n"


def test_a_container_is_listed_stopped_started_and_removed(seom: SeomCli, name: str) -> None:
    seom.out("create", "--name", name, "-l", f"test={name}", "busybox", "sleep", "1000")
    assert seom.out("start", name) == name
    listed = seom.out(
        "ps", "--filter", f"label=test={name}", "--format", "{{.Names}} {{.State}} {{.Command}}"
    )
    assert listed == f'{name} running "sleep 1000"'
    assert seom.out("pause", name) == name
    assert "(Paused)" in seom.out("ps", "--filter", f"name={name}", "--format", "{{.Status}}")
    assert seom.out("unpause", name) == name
    assert seom.out("stop", "-t", "0", name) == name
    assert seom.out("inspect", "-f", "{{.State.Running}} {{.State.ExitCode}}", name) == "false 137"
    assert seom.out("rename", name, f"{name}-b") == ""
    assert seom.out("rm", f"{name}-b") == f"{name}-b"
    done = seom("rm", name)
    assert (done.returncode, done.stderr) == (1, f"Error response from daemon: No such container: {name}\n")


def test_exec_runs_beside_and_returns_its_own_code(seom: SeomCli, name: str) -> None:
    seom.out("run", "-d", "--name", name, "busybox", "sleep", "1000")
    done = seom("exec", "-e", "A=b", "-w", "/tmp", name, "sh", "-c", "echo $A $PWD; exit 5")
    assert (done.returncode, done.stdout) == (5, "b /tmp\n")
    assert seom("exec", "-i", name, "cat", input="typed").stdout == "typed"
    assert "sleep 1000" in seom.out("top", name)


def test_a_terminal_has_the_size_of_the_users_own(seom: SeomCli) -> None:
    terminal = seom.terminal("run", "--rm", "-it", "busybox", "sh")
    terminal.expect("# ")
    terminal.resize(33, 101)
    terminal.type("until stty size | grep '33 101'; do :; done; echo re''sized; exit 4\n")
    terminal.expect("resized")
    assert terminal.wait() == 4


def test_control_c_reaches_the_process_on_a_terminal(seom: SeomCli) -> None:
    program = "trap 'echo got it; exit 3' INT; echo ready; while :; do read x; done"
    terminal = seom.terminal("run", "--rm", "-it", "busybox", "sh", "-c", program)
    terminal.expect("ready")
    terminal.type(b"\x03")
    terminal.expect("got it")
    assert terminal.wait() == 3


def test_detach_keys_leave_the_container_running(seom: SeomCli, name: str) -> None:
    terminal = seom.terminal("run", "-it", "--name", name, "busybox", "sh")
    terminal.expect("# ")
    terminal.type(b"\x10\x11")
    assert terminal.wait() == 0
    assert seom.out("inspect", "-f", "{{.State.Running}}", name) == "true"
    terminal = seom.terminal("attach", "--detach-keys", "ctrl-a,d", name)
    terminal.type("echo a''b\n")
    terminal.expect("ab")
    terminal.type(b"\x01")
    terminal.type(b"d")
    terminal.expect("read escape sequence")
    assert terminal.wait() == 1
    terminal = seom.terminal("attach", name)
    terminal.type("exit 9\n")
    assert terminal.wait() == 9


def test_signals_are_passed_on_without_a_terminal(seom: SeomCli) -> None:
    program = "trap 'echo term; exit 6' TERM; echo ready; while :; do sleep 0.05; done"
    process = seom.popen("run", "--rm", "busybox", "sh", "-c", program)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert (process.returncode, output) == (6, b"term\n")


def test_start_attaches_before_the_first_byte(seom: SeomCli, name: str) -> None:
    seom.out("create", "-i", "--name", name, "busybox", "sh", "-c", "read x; echo got $x; exit 2")
    done = seom("start", "-ai", name, input="it\n")
    assert (done.returncode, done.stdout) == (2, "got it\n")


def test_files_are_copied_both_ways(seom: SeomCli, name: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "a").write_text("A")
    (source / "sub/b").write_text("B")
    (source / "link").symlink_to("a")
    os.chmod(source / "a", 0o750)
    seom.out("create", "--name", name, "busybox")
    seom.out("cp", source, f"{name}:/tmp")
    seom.out("cp", f"{source}/.", f"{name}:/root")
    seom.out("cp", source / "a", f"{name}:/tmp/renamed")
    seom.out("cp", f"{name}:/tmp/source", tmp_path / "back")
    assert (tmp_path / "back/sub/b").read_text() == "B"
    assert (tmp_path / "back/link").readlink() == Path("a")
    assert (tmp_path / "back/a").stat().st_mode & 0o777 == 0o750
    (tmp_path / "into").mkdir()
    seom.out("cp", f"{name}:/tmp/renamed", tmp_path / "into")
    assert (tmp_path / "into/renamed").read_text() == "A"
    seom.out("cp", f"{name}:/root/.", tmp_path / "into")
    assert (tmp_path / "into/sub/b").read_text() == "B"
    archive = seom.popen("cp", f"{name}:/tmp/source", "-")
    data, _ = archive.communicate(timeout=30)
    (tmp_path / "a.tar").write_bytes(data)
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert "source/sub/b" in tar.getnames()


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("{name}:/none", "/tmp/x", "Could not find the file /none in container"),
        ("{name}:/etc", "/none/x", 'invalid output path: directory "/none" does not exist'),
        ("/none", "{name}:/tmp", "no such file or directory"),
    ],
)
def test_a_copy_that_cannot_be_says_why(
    seom: SeomCli, name: str, source: str, target: str, message: str
) -> None:
    seom.out("create", "--name", name, "busybox")
    done = seom("cp", source.format(name=name), target.format(name=name))
    assert done.returncode == 1
    assert message in done.stderr


def test_images_are_tagged_saved_loaded_and_removed(seom: SeomCli, name: str, tmp_path: Path) -> None:
    seom.out("tag", "busybox", f"{name}:1")
    assert seom.out("images", "--format", "{{.Repository}}:{{.Tag}}", f"{name}:1") == f"{name}:1"
    seom.out("save", "-o", tmp_path / "image.tar", f"{name}:1")
    assert seom.out("rmi", f"{name}:1") == f"Untagged: {name}:1"
    assert seom.out("load", "-i", tmp_path / "image.tar") == f"Loaded image: {name}:1"
    history = [json.loads(line) for line in seom.out("history", "--format", "json", f"{name}:1").splitlines()]
    assert history
    seom.out("rmi", f"{name}:1")


def test_a_committed_container_is_an_image(seom: SeomCli, name: str) -> None:
    seom.out("run", "--name", name, "busybox", "touch", "/new")
    assert "A /new" in seom.out("diff", name).splitlines()
    identity = seom.out("commit", "-m", "added", "-c", "ENV X=y", name, f"{name}:1")
    assert identity.startswith("sha256:")
    assert seom.out("run", "--rm", f"{name}:1", "sh", "-c", "ls /new; echo $X") == "/new\ny"
    seom.out("rm", name)
    seom.out("rmi", f"{name}:1")


def test_networks_and_volumes_come_and_go(seom: SeomCli, name: str) -> None:
    identity = seom.out("network", "create", "--label", f"test={name}", name)
    assert seom.out("network", "ls", "-q", "--no-trunc", "--filter", f"label=test={name}") == identity
    assert seom.out("network", "inspect", "-f", "{{.Driver}}", name) == "bridge"
    assert seom.out("network", "rm", name) == name
    assert seom.out("volume", "create", name) == name
    seom.out("run", "--rm", "-v", f"{name}:/data", "busybox", "touch", "/data/kept")
    assert seom.out("run", "--rm", "-v", f"{name}:/data", "busybox", "ls", "/data") == "kept"
    assert seom.out("volume", "rm", name) == name


def test_statistics_and_usage_are_shown(seom: SeomCli, name: str) -> None:
    seom.out("run", "-d", "--name", name, "busybox", "sleep", "1000")
    shown = seom.out("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", name)
    assert shown == f"{name} 1"
    kinds = [line.split("  ")[0] for line in seom.out("system", "df").splitlines()]
    assert kinds == ["TYPE", "Images", "Containers", "Local Volumes", "Build Cache"]


def test_events_tell_of_a_containers_life(seom: SeomCli, name: str) -> None:
    since = seom.out("info", "--format", "{{.SystemTime}}")
    seom.out("run", "--rm", "--name", name, "busybox", "true")
    options = ("--since", since, "--until", "0s", "--filter", f"container={name}")
    actions = seom.out("events", *options, "--format", "{{.Action}}").splitlines()
    assert [action for action in actions if action in ("create", "start", "die", "destroy")] == [
        "create",
        "start",
        "die",
        "destroy",
    ]


def test_a_cidfile_is_written_once(seom: SeomCli, tmp_path: Path) -> None:
    path = tmp_path / "cid"
    identity = seom.out("create", "--cidfile", path, "busybox")
    assert path.read_text() == identity
    done = seom("create", "--cidfile", path, "busybox")
    assert done.returncode == 125
    assert "container ID file found, make sure the other container isn't running or delete" in done.stderr
    missing = tmp_path / "other"
    assert seom("run", "--cidfile", missing, "--name", "-x", "busybox").returncode == 125
    assert not missing.exists()


def test_reset_asks_and_then_removes_everything(own_daemon: PrivateDaemon, tmp_path: Path) -> None:
    seom = SeomCli(own_daemon.socket, tmp_path / "config")
    seom.out("run", "-d", "-v", "kept:/data", "busybox", "sleep", "1000")
    seom.out("network", "create", "extra")
    asked = seom("system", "reset", input="n\n")
    assert "all volumes with their data" in asked.stdout
    assert seom.out("ps", "-q")
    assert "Everything is removed" in seom.out("system", "reset", "-f")
    everything = (("ps", "-aq"), ("images", "-q"), ("volume", "ls", "-q"))
    assert [seom.out(*command) for command in everything] == ["", "", ""]
    assert "extra" not in seom.out("network", "ls")
    own_daemon.restart()
    assert seom.out("network", "ls", "--format", "{{.Name}}").split() == ["bridge", "host", "none"]


def test_a_run_outlives_a_crash_of_the_daemon(own_daemon: PrivateDaemon, tmp_path: Path) -> None:
    seom = SeomCli(own_daemon.socket, tmp_path / "config")
    process = seom.popen("run", "-i", "busybox", "sh", "-c", "echo ready; read x; echo got $x; exit 5")
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    own_daemon.kill9()
    own_daemon.start()
    output, _ = process.communicate(b"it\n", timeout=30)
    assert (process.returncode, output) == (5, b"got it\n")


def test_a_terminal_is_put_back_when_the_client_is_ended(seom: SeomCli) -> None:
    terminal = seom.terminal("run", "--rm", "-it", "busybox", "sh", "-c", "echo ready; exec cat")
    terminal.expect("ready")
    raw = termios.tcgetattr(terminal.master)[3]
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.process.wait(30) == 143
    cooked = termios.tcgetattr(terminal.master)[3]
    assert (bool(raw & termios.ICANON), bool(cooked & termios.ICANON)) == (False, True)


def test_closed_standard_descriptors_are_no_obstacle(seom: SeomCli) -> None:
    command = shlex.join(seom.command("run", "--rm", "-i", "busybox", "sh", "-c", "cat; exit 3"))
    done = subprocess.run(["sh", "-c", f"{command} <&- >&- 2>&-"], env=seom.environment, timeout=60)
    assert done.returncode == 3


def test_a_daemon_that_goes_away_is_said_so(own_daemon: PrivateDaemon, tmp_path: Path) -> None:
    seom = SeomCli(own_daemon.socket, tmp_path / "config")
    seom.out("volume", "create", "seen")
    process = seom.popen("events", "--since", "0")
    assert process.stdout is not None and process.stdout.readline()
    own_daemon.kill9()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert b"daemon closed the connection" in errors
    done = seom("ps")
    assert done.returncode == 1
    assert "start it with `seomd` as root" in done.stderr
