"""Containers started through the Runtime alone: no daemon, no images, a busybox root."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import socket
import tarfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from seom.containers.runtime import (
    Attachment,
    ExitRecord,
    LogTarget,
    Rootfs,
    Runtime,
    StartRequest,
    Stdio,
    Workload,
)
from seom.linux.cgroup import Cgroup
from seom.oci.runtime_spec import Linux, Mount, Namespace, Process, Resources, Root, RuntimeSpec
from tests.harness.images import busybox_layer

NAMESPACES = ("mount", "pid", "ipc", "uts", "network", "cgroup")
MOUNTS = (
    Mount("/proc", "proc", "proc", ["nosuid", "noexec", "nodev"]),
    Mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
    Mount(
        "/dev/pts",
        "devpts",
        "devpts",
        ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    ),
    Mount("/dev/shm", "tmpfs", "shm", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    Mount("/dev/mqueue", "mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
    Mount("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
    Mount("/sys/fs/cgroup", "cgroup", "cgroup", ["ro", "nosuid", "noexec", "nodev"]),
)


def spec(*args: str, tty: bool = False, mounts: Sequence[Mount] = (), **process: Any) -> RuntimeSpec:
    """A specification with every namespace but the user's, for args."""
    return RuntimeSpec(
        "1.2.0",
        process=Process(cwd="/", args=list(args), env=["PATH=/bin"], terminal=tty),
        root=Root("/"),
        hostname="sandbox",
        mounts=[*MOUNTS, *mounts],
        linux=Linux(
            namespaces=[Namespace(kind) for kind in NAMESPACES],
            masked_paths=["/proc/keys", "/proc/acpi", "/proc/scsi", "/sys/firmware"],
            readonly_paths=["/proc/sys", "/proc/bus"],
            resources=Resources(),
        ),
    )


def with_process(given: RuntimeSpec, **changes: Any) -> RuntimeSpec:
    """The specification with other values in its process."""
    assert given.process is not None
    return msgspec.structs.replace(given, process=msgspec.structs.replace(given.process, **changes))


def with_linux(given: RuntimeSpec, **changes: Any) -> RuntimeSpec:
    """The specification with other values in its linux section."""
    assert given.linux is not None
    return msgspec.structs.replace(given, linux=msgspec.structs.replace(given.linux, **changes))


class Client:
    """A client's end of an attachment."""

    def __init__(self) -> None:
        self.socket, self._theirs = socket.socketpair()
        self.socket.setblocking(False)

    def attachment(self, *, stdin: bool = False, **options: Any) -> Attachment:
        return Attachment(self._theirs.detach(), stdin, True, True, **options)

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    def end_input(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    async def read_all(self) -> bytes:
        """Everything until the monitor hangs up."""
        data = b""
        while chunk := await self.read_some():
            data += chunk
        self.socket.close()
        return data

    async def read_some(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.socket, 1 << 16)

    async def read_until(self, text: bytes) -> bytes:
        data = b""
        while text not in data:
            chunk = await self.read_some()
            assert chunk, f"the stream ended after {data!r}"
            data += chunk
        return data


@dataclass
class Host:
    """A runtime in a folder of its own."""

    directory: Path
    lower: Path
    runtime: Runtime
    group: str

    def request(self, given: RuntimeSpec, *, stdio: Stdio | None = None, **changes: Any) -> StartRequest:
        """A start request for a new container with an empty upper layer and a json-file log."""
        name = os.urandom(6).hex()
        data = self.directory / "data" / name
        for folder in ("upper", "work"):
            (data / folder).mkdir(parents=True)
        tty = given.process is not None and given.process.terminal
        values: dict[str, Any] = {
            "id": name,
            "directory": self.directory / "run" / "containers" / name,
            "spec": given,
            "rootfs": Rootfs([str(self.lower)], str(data / "upper"), str(data / "work")),
            "cgroup": f"{self.group}/{name}",
            "stdio": stdio or Stdio(tty, False, False),
            "log": LogTarget("json-file", str(data / "container.log")),
            **changes,
        }
        return StartRequest(**values)

    async def start(self, given: RuntimeSpec, **changes: Any) -> Workload:
        return await self.runtime.start(self.request(given, **changes))

    async def run(self, given: RuntimeSpec, **changes: Any) -> tuple[ExitRecord, str]:
        """Run to the end: how it ended, and its output without framing."""
        client = Client()
        workload = await self.runtime.start(self.request(given, **changes), attachments=[client.attachment()])
        output = await client.read_all()
        return await workload.wait(), output.decode(errors="replace")


@asynccontextmanager
async def host(directory: Path) -> AsyncIterator[Host]:
    """A runtime whose containers are all killed, and whose traces are removed, at the end."""
    lower = directory / "lower"
    lower.mkdir()
    with tarfile.open(fileobj=io.BytesIO(busybox_layer())) as archive:
        archive.extractall(lower)
    runtime = Runtime(directory / "run", "test")
    made = Host(directory, lower, runtime, f"seom-test-{os.urandom(4).hex()}")
    await runtime.open()
    try:
        yield made
    finally:
        await runtime.close()
        group = Cgroup(made.group)
        if group.exists():
            await asyncio.to_thread(_clear, group)
        shutil.rmtree(directory / "data", ignore_errors=True)


def _clear(group: Cgroup) -> None:
    for name in {name for folder in group.folders for name in _children(folder)}:
        child = Cgroup(f"{group.path}/{name}")
        child.kill()
    group.remove()


def _children(folder: str) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder) if entry.is_dir()]
    except FileNotFoundError:
        return []
