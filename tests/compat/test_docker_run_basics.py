"""docker run: output, exit codes, identity and environment of the process."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.harness.docker_cli import DockerCli


def test_output_and_errors_arrive_on_their_own_streams(docker: DockerCli) -> None:
    done = docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\n", "err\n")


@pytest.mark.parametrize("code", [0, 1, 7, 42, 255])
def test_the_exit_code_is_the_process_s_own(docker: DockerCli, code: int) -> None:
    assert docker("run", "--rm", "busybox", "sh", "-c", f"exit {code}").returncode == code


def test_a_command_that_is_not_there_exits_127(docker: DockerCli) -> None:
    done = docker("run", "--rm", "busybox", "no-such-command")
    assert done.returncode == 127
    assert "no-such-command" in done.stderr
    assert "executable file not found in $PATH" in done.stderr


def test_a_command_that_cannot_be_executed_exits_126(docker: DockerCli) -> None:
    done = docker("run", "--rm", "busybox", "/etc/passwd")
    assert done.returncode == 126
    assert "permission denied" in done.stderr


def test_an_error_of_the_daemon_exits_125(docker: DockerCli, name: str) -> None:
    docker.out("create", "--name", name, "busybox")
    done = docker("run", "--rm", "--name", name, "busybox", "true")
    assert done.returncode == 125
    assert f'The container name "/{name}" is already in use by container' in done.stderr


def test_a_killed_process_exits_128_and_the_signal(docker: DockerCli) -> None:
    assert docker("run", "--rm", "--init", "busybox", "sh", "-c", "kill -9 $$").returncode == 137


def test_stdin_reaches_the_process_and_its_end_ends_it(docker: DockerCli) -> None:
    assert docker.out("run", "--rm", "-i", "busybox", "cat", input="over\nthere\n") == "over\nthere"


def test_without_interactive_stdin_is_empty(docker: DockerCli) -> None:
    assert docker.out("run", "--rm", "busybox", "cat") == ""


def test_the_environment_is_the_image_s_and_the_options(docker: DockerCli, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# comment\nFROM_FILE=file value\nTERM_FROM_FILE\n")
    text = docker.out(
        *("run", "--rm", "-e", "A=1", "-e", "EMPTY=", "--env-file", tmp_path / "env", "busybox", "env")
    )
    lines = set(text.splitlines())
    assert {"A=1", "EMPTY=", "FROM_FILE=file value", "HOME=/root"} <= lines
    assert any(line.startswith("PATH=/usr/local/sbin:") for line in lines)
    assert any(line.startswith("HOSTNAME=") for line in lines)


def test_a_terminal_sets_term(docker: DockerCli) -> None:
    assert docker.out("run", "--rm", "-t", "busybox", "sh", "-c", "echo $TERM").strip() == "xterm"


def test_the_working_directory_is_made_when_missing(docker: DockerCli) -> None:
    assert docker.out("run", "--rm", "-w", "/a/b/c", "busybox", "pwd") == "/a/b/c"


def test_a_relative_working_directory_is_refused(docker: DockerCli) -> None:
    done = docker("run", "--rm", "-w", "a/b", "busybox", "pwd")
    assert done.returncode == 125
    assert "the working directory 'a/b' is invalid, it needs to be an absolute path" in done.stderr


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("daemon", "uid=1(daemon) gid=1(daemon) groups=1(daemon),50(staff)"),
        ("1:50", "uid=1(daemon) gid=50(staff) groups=50(staff)"),
        ("nobody:staff", "uid=65534(nobody) gid=50(staff) groups=50(staff)"),
        ("4242:4343", "uid=4242 gid=4343 groups=4343"),
        ("4242", "uid=4242 gid=0(root) groups=0(root)"),
    ],
)
def test_the_user_is_resolved_in_the_image(docker: DockerCli, user: str, expected: str) -> None:
    assert docker.out("run", "--rm", "-u", user, "busybox", "id") == expected


def test_an_unknown_user_is_refused(docker: DockerCli) -> None:
    done = docker("run", "--rm", "-u", "nosuchuser", "busybox", "id")
    assert done.returncode in (125, 126)
    assert "unable to find user nosuchuser: no matching entries in passwd file" in done.stderr


def test_group_add_adds_groups(docker: DockerCli) -> None:
    text = docker.out("run", "--rm", "--group-add", "staff", "--group-add", "777", "busybox", "id", "-G")
    assert set(text.split()) >= {"0", "50", "777"}


def test_the_entrypoint_comes_before_the_arguments(docker: DockerCli) -> None:
    assert docker.out("run", "--rm", "--entrypoint", "echo", "busybox", "a", "b") == "a b"


def test_without_a_command_the_image_s_own_runs(docker: DockerCli) -> None:
    assert docker.out("run", "--rm", "-i", "busybox", input="echo from the shell\n") == "from the shell"


def test_the_host_name_is_the_short_id_or_as_asked(docker: DockerCli) -> None:
    assert re.fullmatch("[0-9a-f]{12}", docker.out("run", "--rm", "busybox", "hostname"))
    text = docker.out(
        "run", "--rm", "--hostname", "island", "busybox", "sh", "-c", "hostname; cat /etc/hosts"
    )
    assert text.startswith("island\n")
    assert re.search(r"^[0-9.]+\tisland$", text, re.MULTILINE)


def test_add_host_and_dns_are_written_to_the_files(docker: DockerCli) -> None:
    text = docker.out(
        *("run", "--rm", "--add-host", "db:10.1.2.3", "--dns", "192.0.2.1", "--dns-search", "example.org"),
        *("--dns-option", "ndots:2", "busybox", "cat", "/etc/hosts", "/etc/resolv.conf"),
    )
    assert "10.1.2.3\tdb" in text
    assert "nameserver 192.0.2.1" in text
    assert "search example.org" in text
    assert "options ndots:2" in text


def test_detached_prints_the_whole_id(docker: DockerCli, name: str) -> None:
    identity = docker.out("run", "-d", "--name", name, "busybox", "sleep", "1000")
    assert re.fullmatch("[0-9a-f]{64}", identity)
    assert docker.inspect(name)["Id"] == identity


def test_the_id_is_written_to_the_cidfile(docker: DockerCli, tmp_path: Path) -> None:
    docker.out("run", "-d", "--cidfile", tmp_path / "cid", "busybox", "true")
    assert docker.inspect((tmp_path / "cid").read_text())["State"]["Status"] in ("running", "exited")


def test_rm_removes_the_container_and_its_anonymous_volumes(docker: DockerCli, name: str) -> None:
    before = docker.out("volume", "ls", "-q")
    docker.out("run", "--rm", "--name", name, "-v", "/data", "busybox", "touch", "/data/x")
    assert docker("inspect", name).returncode == 1
    assert docker.out("volume", "ls", "-q") == before


def test_pull_never_with_an_unknown_image_exits_125(docker: DockerCli) -> None:
    done = docker("run", "--pull", "never", "no-such-image:1", "true")
    assert done.returncode == 125
    assert "No such image: no-such-image:1" in done.stderr


def test_labels_are_kept(docker: DockerCli, name: str, tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("from.file=yes\n")
    docker.out(
        "create", "--name", name, "-l", "a=b", "-l", "empty", "--label-file", tmp_path / "labels", "busybox"
    )
    labels = docker.inspect(name)["Config"]["Labels"]
    assert labels == {"a": "b", "empty": "", "from.file": "yes"}


def test_an_init_process_reaps_orphans(docker: DockerCli) -> None:
    script = "sh -c '(sleep 0.01 &) ; exit 0'; sleep 0.2; ps -o stat | grep -c Z; ps -o pid,args | head -2"
    text = docker.out("run", "--rm", "--init", "busybox", "sh", "-c", script)
    assert text.startswith("0")
    assert docker.out("run", "--rm", "--init", "busybox", "sh", "-c", "echo $$") != "1"


def test_an_interrupt_from_the_client_reaches_the_process(docker: DockerCli) -> None:
    script = "trap 'echo interrupted; exit 3' INT; echo ready; while :; do sleep 0.1; done"
    client = docker.popen("run", "--rm", "busybox", "sh", "-c", script)
    assert client.stdout is not None
    assert client.stdout.readline() == b"ready\n"
    client.send_signal(2)
    assert client.stdout.read() == b"interrupted\n"
    assert client.wait(20) == 3
