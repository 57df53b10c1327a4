"""The real dockerd, private and complete: to measure against, and to prove compatibility tests right.

The program is Debian's; when the host has none, scripts/docker-reference unpacks one into a folder.
Nothing is installed, and the daemon lives in a network namespace of its own.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from tests.harness.docker_cli import DockerCli
from tests.harness.http_client import ApiClient
from tests.harness.network_namespace import NetworkNamespace

FOLDER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seom/docker-reference"
START_TIMEOUT_S = 30


def dockerd_program() -> str | None:
    """The path of dockerd, unpacked or installed; None when there is none."""
    return shutil.which(FOLDER / "usr/sbin/dockerd") or shutil.which("dockerd")


class ReferenceDocker:
    """dockerd with its own data, socket and network; a context manager."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="docker-reference-"))
        self.socket = self.directory / "s.sock"
        self.network = NetworkNamespace()
        self.api = ApiClient(self.socket)
        self.docker = DockerCli(self.socket, self.directory / "docker-config")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start dockerd and wait until it answers."""
        program = dockerd_program()
        assert program, "no dockerd; scripts/docker-reference unpacks one"
        path = f"{FOLDER}/usr/sbin:{FOLDER}/usr/bin:{os.environ['PATH']}:/usr/sbin"
        with (self.directory / "log").open("ab") as log:
            self.process = self.network.popen(
                [
                    *(program, "--host", f"unix://{self.socket}", "--config-file", "/dev/null"),
                    *("--data-root", self.directory / "data", "--exec-root", self.directory / "exec"),
                    *("--pidfile", self.directory / "pid"),
                ],
                env={**os.environ, "PATH": path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log
            select.select([], [], [], 0.05)

    def remove_containers(self) -> None:
        """Force-remove every container with its anonymous volumes."""
        for container in self.api.get("/containers/json", all="1"):
            self.api.delete(f"/containers/{container['Id']}", force="1", v="1")

    def close(self) -> None:
        """Remove the containers, stop dockerd and delete its files."""
        try:
            if self.process is not None:
                if self._answers():
                    self.remove_containers()
                self.process.send_signal(signal.SIGTERM)
                self.process.wait(30)
        finally:
            self.api.close()
            self.network.close()
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> ReferenceDocker:
        if self.process is None:
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answers(self) -> bool:
        try:
            return self.api.request("GET", "/_ping").status == 200
        except OSError:
            self.api.close()
            return False
