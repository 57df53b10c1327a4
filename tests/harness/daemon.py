"""A daemon of a test's own, in a network namespace of its own, and proof that it leaves nothing behind."""

from __future__ import annotations

import hashlib
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from tests.harness.docker_cli import DockerCli
from tests.harness.http_client import ApiClient
from tests.harness.leftovers import MARK, Leftovers, count_leftovers
from tests.harness.network_namespace import NetworkNamespace

ROOT = Path(__file__).parents[2]
SEOMD = ROOT / ".venv/bin/seomd"
START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 30


class PrivateDaemon:
    """seomd with its own data, run directory, socket and network; a context manager.

    Leaving it resets the instance (every container, image, network and volume is removed) and
    fails when a mount, cgroup, process, interface or nftables table remains.
    """

    def __init__(
        self, *arguments: str, environment: dict[str, str] | None = None, disk_bytes: int = 0
    ) -> None:
        """With disk_bytes, the data root is a file system of that size in memory."""
        self.directory = Path(tempfile.mkdtemp(prefix="seom-test-"))
        self.data_root = self.directory / "data"
        self.run_dir = self.directory / "run"
        self.socket = self.directory / "s.sock"
        self.has_disk = disk_bytes > 0
        if self.has_disk:
            self.data_root.mkdir()
            options = f"size={disk_bytes}"
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.data_root], check=True)
        self.mark = uuid.uuid4().hex
        self.arguments = arguments
        self.program: list[str | Path] = [SEOMD]
        self.environment = environment or {}
        self.network = NetworkNamespace()
        self.process: subprocess.Popen[bytes] | None = None
        self.api = ApiClient(self.socket)
        self.docker = DockerCli(self.socket, self.directory / "docker-config")

    @property
    def instance(self) -> str:
        """The six hexadecimal digits that the daemon's names in the kernel carry."""
        return hashlib.sha256(str(self.data_root).encode()).hexdigest()[:6]

    @property
    def pid(self) -> int:
        assert self.process is not None, "the daemon is not started"
        return self.process.pid

    @property
    def log(self) -> str:
        """What the daemon wrote on stderr since the first start."""
        return (self.directory / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start the daemon and return when it listens."""
        command: list[str | Path] = [
            *self.program,
            *("--data-root", self.data_root, "--run-dir", self.run_dir, "--host", f"unix://{self.socket}"),
            *self.arguments,
        ]
        with (self.directory / "log").open("ab") as log:
            self.process = self.network.popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, MARK: self.mark, **self.environment},
            )
        self._wait_until_listening()

    def stop(self) -> int:
        """SIGTERM; containers keep running. Returns the exit code."""
        return self._end(signal.SIGTERM)

    def kill9(self) -> None:
        """SIGKILL, as a crash would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop, if it runs, and start again on the same directories."""
        if self.process is not None:
            self.stop()
        self.start()

    def leftovers(self) -> Leftovers:
        """What the instance has in the kernel and on the disk now."""
        counted = count_leftovers(self.mark, self.instance, [self.data_root, self.run_dir], self.network)
        return replace(counted, mounts=counted.mounts - {str(self.data_root)})

    def wait_for_leftovers(
        self, expected: Leftovers, timeout_s: float = 10, processes: bool = True
    ) -> Leftovers:
        """Wait until no more is there than expected (the kernel removes network devices late).

        Returns what is too much: empty when all is well. Without processes, the daemon and its helpers do
        not count: they are others after a restart, and a monitor may have been replaced by another.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            now = self.leftovers()
            more = now.minus(expected)
            if not processes:
                as_many = len(now.monitors) <= len(expected.monitors)
                more = replace(
                    more, processes=frozenset(), monitors=frozenset() if as_many else more.monitors
                )
            if not more or time.monotonic() > deadline:
                return more
            select.select([], [], [], 0.05)

    def children(self) -> dict[int, str]:
        """The processes of this instance besides the daemon: pid to command line."""
        lines = (line.partition(" ") for line in self.leftovers().processes)
        return {int(pid): command.strip() for pid, _, command in lines if int(pid) != self.pid}

    def remove_containers(self) -> None:
        """Force-remove every container with its anonymous volumes."""
        for container in self.api.get("/containers/json", all="1"):
            self.api.delete(f"/containers/{container['Id']}", force="1", v="1")

    def close(self, check: bool = True) -> None:
        """Reset the instance, stop, and (when check is set) fail if anything of it remains."""
        try:
            if self.process is None or self.process.poll() is not None:
                self.start()
            answer = self.api.post("/seom/v1/reset")
            assert answer.status in (200, 204), f"reset failed: {answer.status} {answer.body!r}\n{self.log}"
            if self.process is not None and self.process.poll() is None:
                self.stop()
            if check:
                remaining = self.wait_for_leftovers(Leftovers())
                assert not remaining, f"left behind after a reset: {remaining}\n{self.log[-4000:]}"
        finally:
            self._destroy()

    def __enter__(self) -> PrivateDaemon:
        try:
            self.start()
        except BaseException:
            self._destroy()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(check=error is None)

    def _wait_until_listening(self) -> None:
        assert self.process is not None and self.process.stdout is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
            line = self.process.stdout.readline()
            if b"listen" in line.lower():
                return
            if not line:
                code = self.process.wait()
                self.process = None
                raise AssertionError(f"seomd ended with {code} before it listened\n{self.log}")
        self.kill9()
        raise AssertionError(f"seomd does not listen after {START_TIMEOUT_S} s\n{self.log}")

    def _end(self, number: int) -> int:
        assert self.process is not None, "the daemon is not started"
        process, self.process = self.process, None
        self.api.close()
        process.send_signal(number)
        try:
            return process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"seomd did not stop within {STOP_TIMEOUT_S} s\n{self.log}") from None
        finally:
            if process.stdout is not None:
                process.stdout.close()

    def _destroy(self) -> None:
        """Whatever happened: leave no process and no file."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        for line in self.leftovers().processes:
            try:
                os.kill(int(line.split()[0]), signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.api.close()
        self.network.close()
        if self.has_disk:
            subprocess.run(["umount", self.data_root], check=True)
        shutil.rmtree(self.directory, ignore_errors=True)
