"""Exec: another process inside a running container.

    create -> start (with or without streams) -> running -> exited

An exec lives with the daemon and its container; nothing of it is stored.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from seom.containers.config import ApiStruct
from seom.containers.runtime import Attachment, ExitRecord, StartFailure, Stdio, Workload
from seom.containers.security import capabilities_of, parse_security_options, seccomp_of
from seom.containers.spec import exec_process
from seom.containers.user import resolve_user
from seom.engine.container import Container
from seom.engine.events import EventBus
from seom.engine.launch import LaunchFailure, start_failure
from seom.engine.names import new_id
from seom.errors import Conflict, InvalidParameter, NotFound
from seom.oci.runtime_spec import Seccomp

FORGET_AFTER_S = 300.0
"""How long an ended exec can still be inspected."""

SETTLE_TIMEOUT_S = 5.0

READ_BYTES = 65536


class ExecConfig(ApiStruct):
    """The body of POST /containers/{id}/exec."""

    user: str = ""
    privileged: bool = False
    tty: bool = False
    console_size: list[int] | None = None
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    detach_keys: str = ""
    env: list[str] | None = None
    working_dir: str = ""
    cmd: list[str] | None = None


@dataclass
class Exec:
    """One exec of one container."""

    id: str
    container: Container
    config: ExecConfig
    workload: Workload | None = None
    exit_code: int | None = None
    started: bool = False
    watcher: asyncio.Task[None] | None = field(default=None, repr=False)
    launched: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    @property
    def running(self) -> bool:
        return self.started and self.exit_code is None


class Execs:
    """The execs of all containers."""

    def __init__(self, events: EventBus) -> None:
        self._events = events
        self._execs: dict[str, Exec] = {}

    def create(self, container: Container, config: ExecConfig) -> Exec:
        """Remember what is to be run. Raises Conflict when the container does not run."""
        _check_running(container)
        if not config.cmd or not config.cmd[0]:
            raise InvalidParameter("No exec command specified")
        if config.user and container.workload is not None:
            with suppress(OSError):
                resolve_user(config.user, f"/proc/{container.workload.pid}/root")  # refuse it now, in words
        exec = Exec(new_id(), container, config)
        self._execs[exec.id] = exec
        container.exec_ids.add(exec.id)
        self._publish(exec, f"exec_create: {' '.join(config.cmd)}")
        return exec

    def get(self, id: str) -> Exec:
        """The exec with this id, or raises NotFound."""
        found = self._execs.get(id)
        if found is None:
            raise NotFound(f"No such exec instance: {id}")
        return found

    async def start(
        self, exec: Exec, attach: Callable[[], list[Attachment]], rows: int = 0, columns: int = 0
    ) -> None:
        """Run it. attach is called once nothing can refuse any more, and takes over the connection.

        Raises Conflict when it was started before, LaunchFailure when the command cannot be run.
        """
        if exec.started:
            raise Conflict(f"exec {exec.id} has already run")
        _check_running(exec.container)
        exec.started = True
        self._publish(exec, f"exec_start: {' '.join(exec.config.cmd or [])}")
        try:
            await self._launch(exec, attach, rows, columns)
        finally:
            exec.launched.set()

    async def _launch(
        self, exec: Exec, attach: Callable[[], list[Attachment]], rows: int, columns: int
    ) -> None:
        workload = exec.container.workload
        assert workload is not None
        container, config = exec.container, exec.config
        user = await asyncio.to_thread(
            resolve_user, config.user or container.config.user, f"/proc/{workload.pid}/root"
        )
        process = exec_process(
            container.config,
            container.host,
            user,
            args=config.cmd or [],
            env=config.env or [],
            cwd=config.working_dir,
            tty=config.tty,
            privileged=config.privileged,
        )
        stdio = Stdio(
            tty=config.tty, open_stdin=config.attach_stdin, stdin_once=True, rows=rows, columns=columns
        )
        attachments = attach()
        try:
            exec.workload = await workload.exec(exec.id, process, stdio, attachments, _seccomp(exec))
        except StartFailure as failure:
            launch_failure = start_failure(failure, "exec")
            exec.exit_code = launch_failure.exit_code
            self._end(exec)
            raise launch_failure from failure
        exec.watcher = asyncio.create_task(self._watch(exec, exec.workload))

    async def _watch(self, exec: Exec, workload: Workload) -> None:
        record: ExitRecord = await workload.wait()
        exec.exit_code = record.code
        self._publish(exec, "exec_die", exitCode=str(record.code))
        self._end(exec)

    def _end(self, exec: Exec) -> None:
        exec.container.exec_ids.discard(exec.id)
        asyncio.get_running_loop().call_later(FORGET_AFTER_S, self._execs.pop, exec.id, None)

    async def wait(self, exec: Exec) -> int:
        """The exit code, once there is one."""
        if exec.watcher is not None:
            await asyncio.shield(exec.watcher)
        return exec.exit_code if exec.exit_code is not None else -1

    async def settle(self, exec: Exec) -> None:
        """Wait for the exit code of a process that has ended: its client's stream may end before we know."""
        try:
            async with asyncio.timeout(SETTLE_TIMEOUT_S):
                if exec.running:
                    await exec.launched.wait()
                if exec.running and exec.workload is not None and _has_ended(exec.workload):
                    await self.wait(exec)
        except TimeoutError:
            return

    async def resize(self, exec: Exec, rows: int, columns: int) -> None:
        """Set the terminal's size; raises Conflict when it does not run."""
        if exec.workload is None or not exec.running:
            raise Conflict(f"exec {exec.id} is not running")
        await exec.workload.resize(rows, columns)

    async def run_and_capture(
        self, container: Container, argv: list[str], timeout_s: float
    ) -> tuple[int, bytes]:
        """Run a command and return (exit code, output); after timeout_s it is killed (TimeoutError)."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        config = ExecConfig(cmd=argv, attach_stdout=True, attach_stderr=True)
        exec = self.create(container, config)
        attachment = Attachment(
            fd=theirs.detach(), stdin=False, stdout=True, stderr=True, detach_keys=b"", framed=False
        )
        with ours:
            try:
                async with asyncio.timeout(timeout_s):
                    await self.start(exec, lambda: [attachment])
                    output = await _read_all(ours)
                    return await self.wait(exec), output
            except TimeoutError:
                if exec.workload is not None:
                    exec.workload.signal(9)
                raise
            except LaunchFailure as failure:
                return failure.exit_code, str(failure).encode()

    def _publish(self, exec: Exec, action: str, **attributes: str) -> None:
        container = exec.container
        self._events.publish(
            "container",
            action,
            container.id,
            {**container.event_attributes(), "execID": exec.id, **attributes},
        )


def _seccomp(exec: Exec) -> Seccomp | None:
    """The container's own filter; a privileged exec has it, too."""
    host = exec.container.host
    options = parse_security_options(host.security_opt)
    return seccomp_of(options, capabilities_of(host), host.privileged)


def _has_ended(workload: Workload) -> bool:
    if workload.pidfd < 0:
        return True
    poll = select.poll()
    poll.register(workload.pidfd, select.POLLIN)
    return bool(poll.poll(0))


async def _read_all(sock: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    chunks: list[bytes] = []
    while chunk := await loop.sock_recv(sock, READ_BYTES):
        chunks.append(chunk)
    return b"".join(chunks)


def _check_running(container: Container) -> None:
    if container.paused:
        raise Conflict(f"Container {container.name} is paused, unpause the container before exec")
    if not container.running:
        raise Conflict(f"container {container.id} is not running")
