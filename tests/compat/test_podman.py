"""podman with seom-runtime in place of its own runtime."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.images import busybox_archive

RUNTIME = Path(sys.executable).with_name("seom-runtime")
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not installed"),
]
FOREVER = ("sh", "-c", "trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done")


class Podman:
    """podman with a store of its own, below a folder."""

    def __init__(self, folder: Path) -> None:
        self.command = ["podman", "--root", str(folder / "root"), "--runroot", str(folder / "run")]
        self.command += ["--tmpdir", str(folder / "tmp"), "--storage-driver", "vfs"]
        self.command += [
            "--cgroup-manager",
            "cgroupfs",
            "--events-backend",
            "file",
            "--runtime",
            str(RUNTIME),
        ]
        archive = folder / "busybox.tar"
        archive.write_bytes(busybox_archive())
        self.ok("load", "--input", str(archive))

    def __call__(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, *arguments], capture_output=True, text=True, timeout=60, **options
        )

    def ok(self, *arguments: str, **options: Any) -> str:
        done = self(*arguments, **options)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self("run", "--rm", "--network", "none", *arguments, **options)

    def start(self, name: str, *options: str) -> None:
        """A container in the background that has said that it is up."""
        self.ok("run", "--detach", "--network", "none", "--name", name, *options, "busybox", *FOREVER)
        with subprocess.Popen([*self.command, "logs", "--follow", name], stdout=subprocess.PIPE) as logs:
            assert logs.stdout is not None
            logs.stdout.readline()
            logs.kill()


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    # podman takes no run root longer than 50 characters.
    folder = Path(tempfile.mkdtemp(prefix="podman-"))
    made = Podman(folder)
    yield made
    made("rm", "--all", "--force", "--time", "0")
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in sorted((one for one in mounts if one.startswith(str(folder))), reverse=True):
        subprocess.run(["umount", mount], check=True)
    shutil.rmtree(folder)


def test_podman_run_passes_streams_and_exit_code(podman: Podman) -> None:
    done = podman.run("-i", "busybox", "sh", "-c", "cat; echo err >&2; exit 5", input="in\n")
    assert (done.stdout, done.stderr, done.returncode) == ("in\n", "err\n", 5)


def test_podman_reads_why_a_program_cannot_be_run(podman: Podman) -> None:
    done = podman.run("busybox", "nonesuch")
    assert done.returncode == 127
    assert 'exec: "nonesuch": executable file not found in $PATH' in done.stderr
    assert podman.run("busybox", "/etc").returncode == 126


def test_podman_container_life_and_exec(podman: Podman, name: str) -> None:
    podman.start(name)
    assert podman("exec", name, "sh", "-c", "exit 3").returncode == 3
    assert (
        podman.ok("exec", "--user", "12:34", "--env", "A=b", name, "sh", "-c", "id -u; echo $A") == "12\nb\n"
    )
    assert "sleep" in podman.ok("top", name, "args")
    podman.ok("pause", name)
    assert podman.ok("inspect", "--format", "{{.State.Status}}", name) == "paused\n"
    podman.ok("unpause", name)
    podman.ok("stop", "--time", "30", name)
    assert podman.ok("inspect", "--format", "{{.State.ExitCode}}", name) == "9\n"
    podman.ok("start", name)
    podman.ok("kill", name)
    assert podman.ok("wait", name) == "137\n"
    podman.ok("rm", name)


def test_podman_terminals_have_their_size_and_name(podman: Podman, name: str) -> None:
    done = podman.run("--tty", "busybox", "sh", "-c", "tty; echo $TERM")
    assert done.stdout.split() == ["/dev/pts/0", "xterm"]
    podman.start(name)
    assert podman.ok("exec", "--tty", name, "tty").strip().startswith("/dev/pts/")
    podman.ok("rm", "--force", "--time", "0", name)


def test_podman_limits_are_in_force(podman: Podman, name: str) -> None:
    podman.start(name, "--memory", "64m", "--pids-limit", "20", "--cpus", "0.5")
    script = "cat /sys/fs/cgroup/*/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2> /dev/null"
    assert podman.ok("exec", name, "sh", "-c", f"{script}; true").split()[-1] == str(64 << 20)
    podman.ok("update", "--memory", "32m", name)
    assert podman.ok("exec", name, "sh", "-c", f"{script}; true").split()[-1] == str(32 << 20)
    podman.ok("rm", "--force", "--time", "0", name)


def test_podman_confinement_is_in_force(podman: Podman) -> None:
    status = "grep -E '^(CapBnd|Seccomp|NoNewPrivs):' /proc/self/status"
    options = ("--cap-drop", "all", "--security-opt", "no-new-privileges", "--read-only", "--user", "5:6")
    done = podman.run(*options, "busybox", "sh", "-c", f"{status}; touch /x; id -u; head -c 1 /proc/kcore")
    assert done.stdout.split() == ["CapBnd:", "0" * 16, "NoNewPrivs:", "1", "Seccomp:", "2", "5"]
    assert "Read-only file system" in done.stderr
    assert "permission denied" in podman.run("busybox", "mount", "-t", "tmpfs", "x", "/tmp").stderr


def test_podman_privileged_containers_see_the_hosts_devices(podman: Podman) -> None:
    devices = podman.run("--privileged", "busybox", "ls", "/dev").stdout.split()
    assert {"null", "ptmx"} <= set(devices)
    assert ("kmsg" in devices) == os.path.exists("/dev/kmsg")


def test_podman_mounts_sysctls_and_limits_reach_the_program(podman: Podman, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from the host\n")
    options = ["--volume", f"{tmp_path}:/data:ro", "--tmpfs", "/scratch", "--ulimit", "nofile=100:200"]
    options += ["--sysctl", "net.ipv4.ip_forward=1", "--hostname", "box", "--workdir", "/data"]
    script = "cat file; touch /data/x; touch /scratch/x && echo ok; ulimit -n; hostname"
    script += "; cat /proc/sys/net/ipv4/ip_forward"
    done = podman.run(*options, "busybox", "sh", "-c", script)
    assert done.stdout.splitlines() == ["from the host", "ok", "100", "box", "1"]


def test_podman_shares_namespaces_between_containers(podman: Podman, name: str) -> None:
    podman.start(name)
    joined = podman.run("--pid", f"container:{name}", "--ipc", f"container:{name}", "busybox", "ps")
    assert "trap 'exit 9' TERM" in joined.stdout
    podman.ok("rm", "--force", "--time", "0", name)


def test_podman_names_the_runtime_it_uses(podman: Podman) -> None:
    info = json.loads(podman.ok("info", "--format", "json"))
    assert info["host"]["ociRuntime"]["path"] == str(RUNTIME)
    assert "seom-runtime" in info["host"]["ociRuntime"]["version"]
