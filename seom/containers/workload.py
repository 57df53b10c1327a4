"""A running process of a container, as the daemon sees it: its monitor's control socket and its pidfd."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass

from seom.containers import channel, messages
from seom.containers.messages import (
    Attach,
    Exited,
    Failed,
    Reopen,
    Report,
    Resize,
    Started,
    StdinClosed,
    Watched,
)
from seom.oci.runtime_spec import Process, Seccomp


@dataclass(frozen=True, slots=True)
class ExitRecord:
    """How a workload ended: code is 128 + n when signal n killed it."""

    code: int
    finished_at_ns: int
    oom_killed: bool


class StartFailure(Exception):
    """The program was not started. errno is ENOENT or EACCES at stage "exec" for exit codes 127 and 126."""

    def __init__(self, stage: str, errno: int, message: str) -> None:
        super().__init__(message)
        self.stage = stage
        self.errno = errno
        self.message = message


@dataclass(frozen=True, slots=True)
class Stdio:
    """How standard streams are made; rows and columns of 0 leave the terminal's size alone."""

    tty: bool
    open_stdin: bool
    stdin_once: bool
    rows: int = 0
    columns: int = 0


@dataclass(frozen=True, slots=True)
class Attachment:
    """A client's stream socket: its descriptor passes to the monitor.

    framed: output is sent with Docker's 8-byte headers. detach_keys count with a terminal only.
    """

    fd: int
    stdin: bool
    stdout: bool
    stderr: bool
    detach_keys: bytes = b"\x10\x11"
    early_input: bytes = b""
    framed: bool = False

    def message(self, tty: bool) -> Attach:
        """What the monitor is told."""
        keys = self.detach_keys if tty else b""
        return Attach(self.stdin, self.stdout, self.stderr, self.framed, keys, self.early_input)


RunExec = Callable[
    ["Workload", str, Process, Stdio, Sequence[Attachment], "Seccomp | None"], Awaitable["Workload"]
]
Replace = Callable[["Workload"], Coroutine[None, None, None]]


class Workload:
    """One process that a monitor watches over: a container's first, or an exec."""

    def __init__(self, id: str, control: socket.socket, replace: Replace, run_exec: RunExec) -> None:
        self.id = id
        self.pid = 0
        self.pidfd = -1
        self.monitor_pid = 0
        self.started_at_ns = 0
        self.watch = messages.Watch(messages.StreamOptions())
        self.held: dict[str, int] = {}
        self.monitors_lost = 0  # one after another, without a report in between
        self._replace = replace
        self._run_exec = run_exec
        self._loop = asyncio.get_running_loop()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[ExitRecord] = self._loop.create_future()
        self._control = control
        self._lost = asyncio.Event()
        self._replacing: asyncio.Task[None] | None = None
        self.listen(control)

    # -- what the engine does

    async def wait(self) -> ExitRecord:
        """Wait until the workload has ended and its output is logged."""
        return await asyncio.shield(self._ended)

    @property
    def ended(self) -> ExitRecord | None:
        """How it ended, None while it runs."""
        return self._ended.result() if self._ended.done() else None

    def signal(self, number: int) -> None:
        """Send a signal to the process. Raises ProcessLookupError when it has ended."""
        if self.pidfd < 0:
            raise ProcessLookupError(3, "the process has ended")
        signal.pidfd_send_signal(self.pidfd, number)

    async def attach(self, attachment: Attachment) -> None:
        """Hand a client over to the monitor. Raises OSError (EPIPE) when the workload has ended."""
        try:
            await self._send(attachment.message(self.watch.streams.tty), [attachment.fd])
        finally:
            os.close(attachment.fd)

    async def resize(self, rows: int, columns: int) -> None:
        """Set the terminal's size in characters; without a terminal nothing happens."""
        await self._send(Resize(rows, columns))

    async def reopen_log(self) -> None:
        """Go on in a new log file, after the present one was moved."""
        await self._send(Reopen())

    async def exec(
        self,
        exec_id: str,
        process: Process,
        stdio: Stdio,
        attachments: Sequence[Attachment] = (),
        seccomp: Seccomp | None = None,
    ) -> Workload:
        """Run one more process in the container, under its own monitor.

        process and seccomp are complete: of a privileged exec they hold all capabilities and no
        filter. Raises StartFailure.
        """
        return await self._run_exec(self, exec_id, process, stdio, attachments, seccomp)

    # -- the monitor

    async def wait_started(self) -> None:
        """Wait for the monitor's first report. Raises StartFailure, ConnectionError when it died."""
        await self._started

    def listen(self, control: socket.socket) -> None:
        """Take control as the socket of the workload's (new) monitor."""
        control.setblocking(False)
        self._control = control
        self._lost.clear()
        self._loop.add_reader(control.fileno(), self._on_readable)

    async def _send(self, request: messages.Request, descriptors: list[int] | None = None) -> None:
        while True:
            if self._replacing is not None:
                await asyncio.shield(self._replacing)
            if self._ended.done():
                raise BrokenPipeError(32, "the workload has ended")
            try:
                await channel.send(self._control, request, descriptors or [])
                return
            except ConnectionError:
                await self._lost.wait()  # the monitor has just died

    def _on_readable(self) -> None:
        try:
            data, descriptors = messages.receive(self._control)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        if data:
            self._take(messages.decode_report(data), descriptors)
            return
        self._close_control()
        self._lost.set()
        if not self._started.done():
            self._started.set_exception(ConnectionResetError(104, "the monitor died"))
            self._started.exception()  # nobody may be waiting
        elif not self._ended.done() and self.pidfd >= 0:
            self._replacing = self._loop.create_task(self._replace(self))
            self._replacing.add_done_callback(self._on_replaced)

    def _on_replaced(self, task: asyncio.Task[None]) -> None:
        self._replacing = None
        if not task.cancelled() and task.exception() is not None:
            self._loop.call_exception_handler(
                {"message": f"no monitor for {self.id}", "exception": task.exception()}
            )

    def _take(self, report: Report, descriptors: list[int]) -> None:
        if isinstance(report, Started):
            self._forget_descriptors()
            self.pid, self.started_at_ns = report.pid, report.started_at_ns
            self.monitor_pid = report.monitor_pid
            self.watch = report.watch
            self.monitors_lost = 0
            self.pidfd, *held = descriptors
            self.held = dict(zip(report.held, held, strict=True))
            if not self._started.done():
                self._started.set_result(None)
        elif isinstance(report, Watched):
            self.monitor_pid = report.monitor_pid
        elif isinstance(report, Failed):
            self._started.set_exception(StartFailure(report.stage, report.errno, report.message))
            self._close_control()
        elif isinstance(report, StdinClosed):
            if "stdin" in self.held:
                os.close(self.held.pop("stdin"))
        else:
            self.end(report)

    def end(self, record: Exited) -> None:
        """The workload has ended."""
        self._close_control()
        self._lost.set()
        self._forget_descriptors()
        if not self._ended.done():
            self._ended.set_result(ExitRecord(record.code, record.finished_at_ns, record.oom_killed))

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call back when the workload has ended."""
        self._ended.add_done_callback(lambda _: callback())

    def abandon(self) -> None:
        """Let go of the workload, which goes on: the daemon is stopping."""
        if self._replacing is not None:
            self._replacing.cancel()
        self._close_control()
        self._forget_descriptors()
        if not self._ended.done():
            self._ended.cancel()

    def _close_control(self) -> None:
        if self._control.fileno() >= 0:
            self._loop.remove_reader(self._control.fileno())
            self._control.close()

    def _forget_descriptors(self) -> None:
        for descriptor in self.held.values():
            os.close(descriptor)
        self.held = {}
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
