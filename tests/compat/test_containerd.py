"""containerd, by way of its runc shim, with seom-runtime as the runtime."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from seom.linux.cgroup import Cgroup
from tests.harness.images import busybox_archive

RUNTIME = Path(sys.executable).with_name("seom-runtime")
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("containerd") is None, reason="containerd is not installed"),
]
CONFIG = """version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{folder}/s"
[ttrpc]
  address = "{folder}/t"
"""
IMAGE = "docker.io/library/busybox:latest"


class Containerd:
    """A private containerd and its client."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.namespace = f"seom-test-{uuid.uuid4().hex[:8]}"
        config = folder / "config.toml"
        config.write_text(CONFIG.format(folder=folder))
        self.process = subprocess.Popen(
            ["containerd", "--config", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if b"successfully booted" in line:
                break
        archive = folder / "busybox.tar"
        archive.write_bytes(busybox_archive())
        self.ok("images", "import", str(archive))

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["ctr", "--address", f"{self.folder}/s", "--namespace", self.namespace, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def ok(self, *arguments: str) -> str:
        done = self(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self("run", "--runc-binary", str(RUNTIME), *arguments)

    def stop(self) -> None:
        for id in self("task", "ls", "-q").stdout.split():
            self("task", "rm", "--force", id)
        self.process.terminate()
        assert self.process.stderr is not None
        self.process.stderr.read()
        self.process.wait(timeout=30)
        Cgroup(self.namespace).remove()  # containerd puts its containers there


@pytest.fixture(scope="module")
def containerd() -> Iterator[Containerd]:
    folder = Path("/tmp") / f"sc-{uuid.uuid4().hex[:8]}"  # a socket's path must be short
    folder.mkdir()
    made = Containerd(folder)
    yield made
    made.stop()
    shutil.rmtree(folder, ignore_errors=True)


def test_containerd_run_passes_output_and_exit_code(containerd: Containerd, name: str) -> None:
    done = containerd.run("--rm", IMAGE, name, "sh", "-c", "echo out; exit 6")
    assert (done.stdout, done.returncode) == ("out\n", 6)


def test_containerd_manages_a_running_task(containerd: Containerd, name: str) -> None:
    limit = ("--memory-limit", str(64 << 20))
    assert containerd.run("--detach", *limit, IMAGE, name, "sleep", "600").returncode == 0
    done = containerd("task", "exec", "--exec-id", "one", name, "sh", "-c", "echo inside; exit 4")
    assert (done.stdout, done.returncode) == ("inside\n", 4)
    containerd.ok("task", "pause", name)
    assert "PAUSED" in containerd.ok("task", "ls")
    containerd.ok("task", "resume", name)
    assert len(containerd.ok("task", "ps", name).splitlines()) == 2
    containerd.ok("task", "kill", "--signal", "KILL", name)
    containerd("task", "wait", name)
    containerd("task", "rm", "--force", name)
    containerd.ok("container", "rm", name)
    assert name not in containerd.ok("task", "ls")


def test_containerd_reads_why_a_program_cannot_be_run(containerd: Containerd, name: str) -> None:
    done = containerd.run("--rm", IMAGE, name, "nonesuch")
    assert done.returncode != 0
    assert 'exec: "nonesuch": executable file not found in $PATH' in done.stderr
