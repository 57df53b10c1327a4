"""seom-runtime on a bundle, command by command, as podman and containerd use it."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seom.linux.cgroup import Cgroup, host_layout

RUNTIME = Path(sys.executable).with_name("seom-runtime")
BUSYBOX = shutil.which("busybox")
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(BUSYBOX is None, reason="needs busybox-static"),
]
COMMANDS = (
    "sh",
    "cat",
    "echo",
    "id",
    "ls",
    "mkdir",
    "mount",
    "sleep",
    "stty",
    "test",
    "touch",
    "true",
    "tty",
    "uname",
)
FOREVER = "trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done"


class Bundle:
    """A bundle of busybox with a runtime root of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "state"
        self.id = f"t{uuid.uuid4().hex[:12]}"
        self.cgroup = f"seom-test-{self.id}/box"
        tools = folder / "rootfs/bin"
        tools.mkdir(parents=True)
        assert BUSYBOX is not None
        shutil.copy(BUSYBOX, tools / "busybox")
        for name in COMMANDS:
            (tools / name).symlink_to("busybox")
        self.run("spec", "--bundle", str(folder))
        self.config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        self.config["process"]["terminal"] = False
        self.config["linux"]["cgroupsPath"] = f"/{self.cgroup}"

    def write(self, *command: str, **process: Any) -> None:
        self.config["process"] |= {"args": list(command), **process}
        (self.folder / "config.json").write_text(json.dumps(self.config))

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [str(RUNTIME), "--root", str(self.root), *arguments]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.run(command, text=True, timeout=60, **streams)

    def leave(self, *arguments: str) -> None:
        """Run a command that leaves a process behind, which shall not keep a pipe of the test open."""
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        assert self.run(*arguments, **streams).returncode == 0

    def ok(self, *arguments: str, **options: Any) -> str:
        done = self.run(*arguments, **options)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    def box(self, *command: str, **process: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in a container of its own, to the end."""
        self.write(*command, **process)
        return self.run("run", "--bundle", str(self.folder), self.id)

    def start(self, script: str = FOREVER) -> int:
        """Create and start a container in the background; returns its pid once it has said something."""
        self.write("sh", "-c", script)
        reader, writer = os.pipe()
        pid_file = self.folder / "pid"
        command = [str(RUNTIME), "--root", str(self.root), "create", "--bundle", str(self.folder)]
        subprocess.run(
            [*command, "--pid-file", str(pid_file), self.id], stdout=writer, check=True, timeout=60
        )
        os.close(writer)
        assert self.state()["status"] == "created"
        self.ok("start", self.id)
        os.read(reader, 100)
        os.close(reader)
        return int(pid_file.read_text())

    def state(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.ok("state", self.id))
        return document


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Bundle]:
    made = Bundle(tmp_path)
    yield made
    made.run("delete", "--force", made.id)
    assert not Cgroup(made.cgroup).exists()
    Cgroup(made.cgroup.split("/")[0]).remove()
    mounts = Path("/proc/self/mountinfo").read_text()
    assert str(tmp_path) not in mounts


def test_run_passes_output_and_exit_code(bundle: Bundle) -> None:
    done = bundle.box("sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)
    assert bundle.box("sh", "-c", "kill -9 $$").returncode in (0, 137)
    assert os.listdir(bundle.root) in ([], [".seccomp"])


def test_a_program_can_be_told_that_the_machine_has_32_bits(bundle: Bundle) -> None:
    bundle.config["linux"]["personality"] = {"domain": "LINUX32"}
    done = bundle.box("uname", "-m")
    assert (done.stdout, done.stderr) == ("i686\n", "")


def test_a_missing_program_is_named(bundle: Bundle) -> None:
    log = bundle.folder / "log.json"
    bundle.write("nonesuch")
    done = bundle.run("--log", str(log), "--log-format", "json", "run", "-b", str(bundle.folder), bundle.id)
    assert done.returncode == 1
    message = 'exec: "nonesuch": executable file not found in $PATH'
    assert message in done.stderr
    entry = json.loads(log.read_text())
    assert entry["level"] == "error" and message in entry["msg"]


def test_the_life_of_a_container(bundle: Bundle) -> None:
    pid = bundle.start()
    state = bundle.state()
    assert (state["status"], state["pid"], state["bundle"]) == ("running", pid, str(bundle.folder))
    assert state["ociVersion"].startswith("1.")
    again = bundle.run("create", "--bundle", str(bundle.folder), bundle.id)
    assert again.returncode == 1 and "already exists" in again.stderr
    assert "not stopped" in bundle.run("delete", bundle.id).stderr
    assert "already running" in bundle.run("start", bundle.id).stderr
    pidfd = os.pidfd_open(pid)
    bundle.ok("kill", bundle.id, "TERM")
    select.select([pidfd], [], [], 30)
    os.close(pidfd)
    assert bundle.state()["status"] == "stopped"
    assert "not running" in bundle.run("kill", bundle.id, "9").stderr
    bundle.ok("delete", bundle.id)
    assert "does not exist" in bundle.run("state", bundle.id).stderr
    bundle.ok("delete", "--force", bundle.id)


def test_a_created_container_can_be_deleted_unstarted(bundle: Bundle) -> None:
    bundle.write("touch", "/ran")
    bundle.leave("create", "--bundle", str(bundle.folder), bundle.id)
    bundle.ok("delete", bundle.id)
    assert not (bundle.folder / "rootfs/ran").exists()


def test_exec_joins_the_container(bundle: Bundle) -> None:
    bundle.start()
    done = bundle.run("exec", bundle.id, "sh", "-c", "echo $$ $HOME; exit 4")
    assert done.returncode == 4
    assert int(done.stdout.split()[0]) > 1
    inside = bundle.ok(
        "exec", "--user", "12:34", "--env", "X=y", "--cwd", "/bin", bundle.id, "sh", "-c", "id; echo $X; pwd"
    )
    assert "uid=12 gid=34" in inside and inside.endswith("y\n/bin\n")
    process = {"args": ["id", "-u"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 77, "gid": 0}}
    file = bundle.folder / "process.json"
    file.write_text(json.dumps(process))
    assert bundle.ok("exec", "--process", str(file), bundle.id) == "77\n"
    assert len(json.loads(bundle.ok("ps", "--format", "json", bundle.id))) >= 1


def test_a_detached_exec_leaves_its_pid(bundle: Bundle) -> None:
    bundle.start()
    pid_file = bundle.folder / "exec.pid"
    bundle.leave("exec", "--detach", "--pid-file", str(pid_file), bundle.id, "sleep", "600")
    pid = int(pid_file.read_text())
    assert pid in json.loads(bundle.ok("ps", "--format", "json", bundle.id))
    assert os.readlink(f"/proc/{pid}/ns/pid") == os.readlink(f"/proc/{bundle.state()['pid']}/ns/pid")


def test_pause_and_resume(bundle: Bundle) -> None:
    bundle.start()
    bundle.ok("pause", bundle.id)
    assert bundle.state()["status"] == "paused"
    assert "paused" in bundle.run("exec", bundle.id, "true").stderr
    bundle.ok("resume", bundle.id)
    assert bundle.state()["status"] == "running"
    assert bundle.run("exec", bundle.id, "true").returncode == 0


def test_update_changes_limits_of_a_running_container(bundle: Bundle) -> None:
    bundle.start()
    document = json.dumps({"memory": {"limit": 64 << 20}, "pids": {"limit": 33}})
    bundle.ok("update", "--resources", "-", bundle.id, input=document)
    group = Cgroup(bundle.cgroup)
    memory = "memory.max" if host_layout().unified else "memory.limit_in_bytes"
    assert Path(group.folder("memory"), memory).read_text() == f"{64 << 20}\n"
    assert Path(group.folder("pids"), "pids.max").read_text() == "33\n"
    bundle.ok("update", "--pids-limit", "44", bundle.id)
    assert Path(group.folder("pids"), "pids.max").read_text() == "44\n"


def test_a_container_sees_its_own_cgroups_and_no_others(bundle: Bundle) -> None:
    bundle.config["linux"]["resources"]["pids"] = {"limit": 77}
    folder = "/sys/fs/cgroup" if host_layout().unified else "/sys/fs/cgroup/pids"
    inside = bundle.box("sh", "-c", f"cat {folder}/pids.max; ls -d {folder}/*/; cat /proc/self/mountinfo")
    assert inside.stdout.startswith("77\n")
    assert Cgroup(bundle.cgroup).path.split("/")[0] not in inside.stdout
    roots = [line.split()[3] for line in inside.stdout.splitlines() if " - cgroup" in line]
    assert set(roots) == {"/"}


def test_hooks_run_in_their_order_and_places(bundle: Bundle) -> None:
    trace = bundle.folder / "trace"
    inside = bundle.folder / "rootfs/trace"

    def hook(name: str, target: str = str(trace)) -> list[dict[str, Any]]:
        script = f'state=$(cat); echo {name} "$(echo $state | grep -o \'"status":"[a-z]*"\')" >> {target}'
        return [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}]

    bundle.config["hooks"] = {
        "prestart": hook("prestart"),
        "createRuntime": hook("createRuntime"),
        "createContainer": hook("createContainer"),
        "startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "cat > /trace"], "env": ["PATH=/bin"]}],
        "poststart": hook("poststart"),
        "poststop": hook("poststop"),
    }
    bundle.config["root"]["readonly"] = False
    bundle.start()
    bundle.ok("delete", "--force", bundle.id)
    assert json.loads(inside.read_text())["id"] == bundle.id
    lines = [line.split() for line in trace.read_text().splitlines()]
    assert [name for name, _ in lines] == [
        "prestart",
        "createRuntime",
        "createContainer",
        "poststart",
        "poststop",
    ]
    assert lines[-1][1] == '"status":"stopped"'


def test_a_failing_hook_stops_the_creation(bundle: Bundle) -> None:
    bundle.config["hooks"] = {"createRuntime": [{"path": "/bin/false"}]}
    done = bundle.box("true")
    assert done.returncode == 1
    assert "error running createRuntime hook #0 (/bin/false): exit status 1" in done.stderr
    assert bundle.run("state", bundle.id).returncode == 1


def test_a_terminal_goes_to_the_console_socket(bundle: Bundle) -> None:
    path = str(bundle.folder / "console.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        bundle.write(
            "sh",
            "-c",
            "read x; tty; stty size; echo got $x",
            terminal=True,
            consoleSize={"height": 11, "width": 22},
        )
        bundle.leave("create", "--bundle", str(bundle.folder), "--console-socket", path, bundle.id)
        connection, _ = listener.accept()
        with connection:
            _, descriptors, _, _ = socket.recv_fds(connection, 100, 1)
    bundle.ok("start", bundle.id)
    os.write(descriptors[0], b"hello\n")
    output = b""
    while b"got hello" not in output:
        output += os.read(descriptors[0], 1000)
    os.close(descriptors[0])
    assert b"/dev/pts/0" in output or b"/dev/console" in output
    assert b"11 22" in output


def test_a_terminal_without_a_console_socket_is_refused_when_detaching(bundle: Bundle) -> None:
    bundle.write("true", terminal=True)
    done = bundle.run("run", "--detach", "--bundle", str(bundle.folder), bundle.id)
    assert "without setting console socket" in done.stderr
    assert bundle.run("state", bundle.id).returncode == 1


def test_preserved_descriptors_reach_the_program_and_no_others(bundle: Bundle) -> None:
    first, second = os.memfd_create("first"), os.memfd_create("second")
    os.write(first, b"kept")
    os.lseek(first, 0, os.SEEK_SET)
    bundle.write("sh", "-c", "cat <&3; ls /proc/self/fd")

    def arrange() -> None:
        os.dup2(first, 3)
        os.dup2(second, 4)

    command = [str(RUNTIME), "--root", str(bundle.root), "run", "--preserve-fds", "1"]
    done = subprocess.run(
        [*command, "-b", str(bundle.folder), bundle.id],
        capture_output=True,
        text=True,
        preexec_fn=arrange,
        close_fds=False,
    )
    os.close(first)
    os.close(second)
    assert done.stdout.split() == ["kept0", "1", "2", "3", "4"]  # 4 is ls's own


def test_run_hands_on_signals(bundle: Bundle) -> None:
    bundle.write("sh", "-c", FOREVER)
    command = [str(RUNTIME), "--root", str(bundle.root), "run", "-b", str(bundle.folder), bundle.id]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=30) == 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frobnicate"], "no such command"),
        (["create", "--nonsense", "x"], "flag provided but not defined"),
        (["state"], "container ID cannot be empty"),
        (["state", "../x"], "invalid container ID format"),
        (["state", "none"], "container does not exist"),
        (["create", "--bundle", "/nonexistent", "x"], "config.json not found"),
    ],
)
def test_bad_command_lines_are_refused(tmp_path: Path, arguments: list[str], message: str) -> None:
    command = [str(RUNTIME), "--root", str(tmp_path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert message in done.stderr


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("process",), "sh", "Expected `object"),
        (("process", "args"), "sh", "Expected `array"),
        (("process", "args"), [], "process.args must not be empty"),
        (("process", "user"), {"uid": "root"}, "Expected `int`"),
        (("mounts",), [{"type": "proc"}], "missing required field `destination`"),
        (("mounts",), [5], "Expected `object`"),
        (("linux", "namespaces"), {"type": "pid"}, "Expected `array`"),
        (("linux", "resources"), {"memory": {"limit": "much"}}, "Expected `int | null`"),
        (("linux", "seccomp"), {"defaultAction": "SCMP_ACT_PERHAPS"}, "SCMP_ACT_PERHAPS"),
        (("linux", "namespaces"), [{"type": "mount"}, {"type": "moon"}], "moon"),
        (("root",), None, "the root is missing"),
        (("root",), {"path": "nowhere"}, "does not exist"),
        (("ociVersion",), "7.0.0", "unsupported ociVersion"),
    ],
)
def test_a_malformed_specification_is_refused_with_the_place(
    bundle: Bundle, path: tuple[str, ...], value: object, message: str
) -> None:
    bundle.write("true")
    target = bundle.config
    for part in path[:-1]:
        target = target[part]
    target[path[-1]] = value
    (bundle.folder / "config.json").write_text(json.dumps(bundle.config))
    done = bundle.run("run", "--bundle", str(bundle.folder), bundle.id)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert bundle.run("state", bundle.id).returncode == 1


def test_features_names_what_is_supported(tmp_path: Path) -> None:
    done = subprocess.run([str(RUNTIME), "features"], capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)
    assert {"prestart", "poststop"} <= set(document["hooks"])
    assert {"ro", "rbind", "rro"} <= set(document["mountOptions"])
    assert document["linux"]["cgroup"]["v2"] is True
