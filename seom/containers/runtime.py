"""The daemon's side of running containers: orders to the spawner, and one Workload for each process.

RUN/containers/ID/
    rootfs/        where the container's own mount namespace has its root; empty from outside
    monitor.sock   the monitor's socket, as long as the container runs
    journal        output between pipe and log (see journal)
    exit.json      how it ended
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from seom.containers import messages
from seom.containers.messages import Adopt, Exec, Exited, Overlay, Start
from seom.containers.messages import Log as _Log
from seom.containers.monitor import EXIT_NAME, SOCKET_NAME
from seom.containers.seccomp_profile import compiled
from seom.containers.spawner_process import SpawnerProcess
from seom.containers.workload import Attachment, ExitRecord, StartFailure, Stdio, Workload
from seom.linux.cgroup import Cgroup
from seom.oci.runtime_spec import Process, RuntimeSpec, Seccomp

__all__ = [
    "Attachment",
    "ExitRecord",
    "LogTarget",
    "Rootfs",
    "Runtime",
    "StartFailure",
    "StartRequest",
    "Stdio",
    "Workload",
]

log = logging.getLogger(__name__)

ADOPTION_TIMEOUT_S = 5.0
_LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Rootfs:
    """An overlay root: unpacked layers, topmost first, and the two writable directories."""

    lowers: list[str]
    upper: str
    work: str


@dataclass(frozen=True, slots=True)
class LogTarget:
    """Where output is logged: driver "json-file", "local" or "none"; max_size_bytes < 0: no limit."""

    driver: str
    path: str
    max_size_bytes: int = -1
    max_files: int = 1
    extra: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StartRequest:
    """All that a container's start needs.

    directory is RUN/containers/ID; rootfs None means spec.root.path; cgroup is relative to the
    hierarchies' roots, "" for the spawner's own; init runs the program below a reaper.
    """

    id: str
    directory: Path
    spec: RuntimeSpec
    rootfs: Rootfs | None
    cgroup: str
    stdio: Stdio
    log: LogTarget | None
    init: bool = False


class Runtime:
    """Starts containers, and finds them again after the daemon was away."""

    def __init__(self, run_dir: Path, instance: str) -> None:
        self._run_dir = run_dir
        self._instance = instance
        self._spawner = SpawnerProcess()
        self._workloads: set[Workload] = set()

    @property
    def spawner_pid(self) -> int | None:
        """The spawner's process number."""
        return self._spawner.pid

    async def open(self) -> None:
        """Start the spawner. Raises OSError."""
        self._spawner.start()

    async def close(self) -> None:
        """Stop the spawner and let go of all workloads, which go on."""
        for workload in list(self._workloads):
            workload.abandon()
        self._workloads.clear()
        await self._spawner.stop()

    async def start(
        self,
        request: StartRequest,
        netns_fd: int | None = None,
        attachments: Sequence[Attachment] = (),
    ) -> Workload:
        """Start a container; the attachments get its output from the first byte on.

        netns_fd stays the caller's, the attachments' descriptors do not. Raises StartFailure.
        """
        linux = request.spec.linux
        program = b""
        spec = request.spec
        if linux is not None and linux.seccomp is not None:
            program = compiled(linux.seccomp, str(self._run_dir / "seccomp"))
            spec = msgspec.structs.replace(spec, linux=msgspec.structs.replace(linux, seccomp=None))
        order = Start(
            id=request.id,
            directory=str(request.directory),
            spec=spec,
            rootfs=Overlay(request.rootfs.lowers, request.rootfs.upper, request.rootfs.work)
            if request.rootfs
            else None,
            cgroup=request.cgroup,
            streams=_options(request.stdio),
            log=_log(request.log),
            init=request.init,
            has_network=netns_fd is not None,
            seccomp=program,
            attachments=[one.message(request.stdio.tty) for one in attachments],
        )
        extra = [] if netns_fd is None else [netns_fd]
        return await self._order(order, extra, attachments)

    async def _order(
        self, order: Start | Exec, extra: list[int], attachments: Sequence[Attachment]
    ) -> Workload:
        """Have an order carried out; once more when the spawner's death got in the way."""
        with ExitStack() as stack:
            for attachment in attachments:
                stack.callback(os.close, attachment.fd)
            descriptors = [*extra, *(one.fd for one in attachments)]
            spawner = self._spawner.pid
            try:
                return await self._try_order(order, descriptors)
            except ConnectionError as error:
                if isinstance(order, Start) and order.cgroup:
                    # Whatever the monitor had begun is in the container's cgroup.
                    await asyncio.to_thread(_clear_group, order.cgroup)
                if self._spawner.running and self._spawner.pid == spawner:
                    reason = "the monitor died before the program had started"
                    raise StartFailure("monitor", 0, reason) from error
            try:
                return await self._try_order(order, descriptors)
            except ConnectionError as error:
                reason = "the spawner died before the program had started"
                raise StartFailure("spawner", 0, reason) from error

    async def _try_order(self, order: Start | Exec, descriptors: list[int]) -> Workload:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        workload = Workload(order.id, ours, self._replace_monitor, self._exec)
        try:
            with theirs:
                await self._spawner.send(order, [theirs.fileno(), *descriptors])
            await workload.wait_started()
        except BaseException:
            workload.abandon()
            raise
        self._keep(workload)
        return workload

    def _keep(self, workload: Workload) -> None:
        self._workloads.add(workload)
        workload.on_end(lambda: self._workloads.discard(workload))

    async def _exec(
        self,
        container: Workload,
        exec_id: str,
        process: Process,
        stdio: Stdio,
        attachments: Sequence[Attachment],
        seccomp: Seccomp | None,
    ) -> Workload:
        program = compiled(seccomp, str(self._run_dir / "seccomp")) if seccomp is not None else b""
        order = Exec(
            id=exec_id,
            pid=container.pid,
            process=process,
            cgroup=container.watch.cgroup,
            streams=_options(stdio),
            seccomp=program,
            attachments=[one.message(stdio.tty) for one in attachments],
        )
        if container.pidfd < 0:
            for attachment in attachments:
                os.close(attachment.fd)
            raise StartFailure("namespaces", 3, "the container has ended")
        return await self._order(order, [container.pidfd], attachments)

    # -- workloads without a monitor, monitors without a daemon

    async def adopt(self, id: str, directory: Path) -> Workload | ExitRecord | None:
        """Find a container that an earlier daemon started.

        A Workload when it runs, an ExitRecord when it has ended meanwhile, None when there is no
        trace of it.
        """
        for _ in range(2):  # it may end between the two looks
            record = _read_exit_record(directory)
            if record is not None:
                return ExitRecord(record.code, record.finished_at_ns, record.oom_killed)
            try:
                control = _connect(directory)
            except OSError:
                continue
            workload = Workload(id, control, self._replace_monitor, self._exec)
            try:
                async with asyncio.timeout(ADOPTION_TIMEOUT_S):
                    await workload.wait_started()
            except (ConnectionError, TimeoutError):
                workload.abandon()
                continue
            self._keep(workload)
            return workload
        return None

    async def _replace_monitor(self, workload: Workload) -> None:
        """Give a workload whose monitor died another one."""
        if workload.monitors_lost:
            await asyncio.sleep(min(_LONGEST_PAUSE_S, 0.05 * 2**workload.monitors_lost))
        workload.monitors_lost += 1
        watch = workload.watch
        if watch.directory:
            record = _read_exit_record(Path(watch.directory))
            if record is not None:
                workload.end(record)
                return
        order = Adopt(workload.id, workload.pid, workload.started_at_ns, watch, list(workload.held))
        while True:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                try:
                    descriptors = [theirs.fileno(), workload.pidfd, *workload.held.values()]
                    await self._spawner.send(order, descriptors)
                except OSError:
                    ours.close()
                    log.exception("no monitor for %s yet", workload.id)
                    await asyncio.sleep(_LONGEST_PAUSE_S)
                else:
                    break
        workload.listen(ours)


def _options(stdio: Stdio) -> messages.StreamOptions:
    return messages.StreamOptions(stdio.tty, stdio.open_stdin, stdio.stdin_once, stdio.rows, stdio.columns)


def _log(target: LogTarget | None) -> _Log | None:
    if target is None or target.driver == "none":
        return None
    return _Log(target.driver, target.path, target.max_size_bytes, target.max_files, target.extra)


def _clear_group(path: str) -> None:
    group = Cgroup(path)
    if group.exists():
        group.kill()
        group.remove()


def _read_exit_record(directory: Path) -> Exited | None:
    try:
        return messages.decode_exited((directory / EXIT_NAME).read_bytes())
    except FileNotFoundError:
        return None


def _connect(directory: Path) -> socket.socket:
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        control.connect(f"/proc/self/fd/{descriptor}/{SOCKET_NAME}")
    except BaseException:
        control.close()
        raise
    finally:
        os.close(descriptor)
    return control
