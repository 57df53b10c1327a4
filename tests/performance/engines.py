"""The engines that are measured: each private, in a network namespace of its own, with the same image."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Protocol

from tests.harness.daemon import ROOT, PrivateDaemon
from tests.harness.docker_cli import DockerCli, docker_program
from tests.harness.images import busybox_archive
from tests.harness.network_namespace import NetworkNamespace
from tests.harness.reference_docker import ReferenceDocker, dockerd_program
from tests.performance.raw_http import RawConnection
from tests.performance.report import Results

IMAGE = "busybox:latest"


class Engine(Protocol):
    """A running engine that speaks the Docker Engine API."""

    directory: Path
    socket: Path
    network: NetworkNamespace
    docker: DockerCli

    @property
    def pid(self) -> int: ...


class PrivatePodman:
    """`podman system service` with its own storage, for as long as the object is open."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="podman-reference-"))
        self.socket = self.directory / "s.sock"
        self.network = NetworkNamespace()
        self.docker = DockerCli(self.socket, self.directory / "docker-config")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def command(self) -> list[str]:
        """podman with the options that make it private."""
        return [
            *("podman", "--root", f"{self.directory}/root", "--runroot", f"{self.directory}/run"),
            *("--tmpdir", f"{self.directory}/tmp", "--storage-driver", "overlay"),
            *("--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", "runc"),
        ]

    def __enter__(self) -> PrivatePodman:
        # podman raises limits by itself, which a host without CAP_SYS_RESOURCE refuses.
        settings = self.directory / "containers.conf"
        settings.write_text('[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n')
        os.environ["CONTAINERS_CONF"] = str(settings)
        with (self.directory / "log").open("ab") as log:
            service = [*self.command, "system", "service", "--time", "0", f"unix://{self.socket}"]
            self.process = self.network.popen(service, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while not self.socket.exists():
            assert time.monotonic() < deadline, (self.directory / "log").read_text()
            select.select([], [], [], 0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self.network.run([*self.command, "rm", "--all", "--force", "--time", "0"])
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self.network.run([*self.command, "unshare", "true"])
        subprocess.run(["umount", self.directory / "root/overlay"], capture_output=True)
        self.network.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def open_engines(wanted: list[str], stack: ExitStack, results: Results) -> dict[str, Engine]:
    """Start every wanted engine that is there, load the image into each; in the order of the table."""
    makers: dict[str, Callable[[], AbstractContextManager[Engine]]] = {"seom": PrivateDaemon}
    if dockerd_program():
        makers["docker"] = ReferenceDocker
    if shutil.which("podman"):
        makers["podman"] = PrivatePodman
    engines: dict[str, Engine] = {}
    with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
        archive.write(busybox_archive())
        archive.flush()
        for name in makers.keys() & set(wanted):
            try:
                engines[name] = stack.enter_context(makers[name]())
                RawConnection(engines[name].socket).send_file("/v1.41/images/load", Path(archive.name))
            except Exception as error:
                engines.pop(name, None)
                results.fail(f"{name}: start", error)
    return {name: engines[name] for name in makers if name in engines}


def run_commands(name: str, engine: Engine) -> dict[str, list[str]]:
    """Command lines that run a container with this engine: column of the table to the command's start."""
    if name == "podman":
        assert isinstance(engine, PrivatePodman)
        enter = ["nsenter", f"--net=/proc/{engine.pid}/ns/net"]
        return {"podman": [*enter, *engine.command, "run", "--rm"]}
    commands = {name: [docker_program(), "run", "--rm"]}
    if name == "seom":
        commands["seom's own cli"] = [str(ROOT / ".venv/bin/seom"), "run", "--rm"]
    return commands


def environment(engine: Engine) -> dict[str, str]:
    """The environment in which a command line reaches the engine."""
    if isinstance(engine, PrivatePodman):
        return dict(os.environ)
    return {**engine.docker.environment, "SEOM_HOST": f"unix://{engine.socket}"}


def engine_memory(engine: Engine) -> tuple[int, int]:
    """(PSS, RSS) in bytes of the daemon and all its helper processes, without the workloads."""
    pss = rss = 0
    for pid in engine_processes(engine):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        sizes = {line.split()[0]: int(line.split()[1]) * 1024 for line in lines}
        pss += sizes["Pss:"]
        rss += sizes["Rss:"]
    return pss, rss


def engine_processes(engine: Engine) -> list[int]:
    """The engine's own processes: those whose command line or open files name its directory."""
    if isinstance(engine, PrivateDaemon):
        return [engine.pid, *(pid for pid in engine.children() if not is_workload(pid, engine))]
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(engine.directory).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def is_workload(pid: int, daemon: PrivateDaemon) -> bool:
    """Whether a process runs in a cgroup of a container."""
    try:
        return f"/seom-{daemon.instance}/" in Path(f"/proc/{pid}/cgroup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def process_rss(pid: int) -> int:
    """Resident bytes of one process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
