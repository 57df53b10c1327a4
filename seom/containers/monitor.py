"""The monitor: one small process beside each workload, which outlives the daemon.

daemon                       monitor                               workload (its child)
------                       -------                               --------
(starts it: see spawner)
Attach, Resize ------------> Relay: output to log and clients <--> writes and reads
                             <---------------- exits -------------
                             drains the pipes, removes the cgroup
                             writes exit.json (rename)
<--------------- Exited ----
                             flushes slow clients, lets the root
                             file system go, ends

daemon dies:   "control" ends; the monitor goes on and listens on DIRECTORY/monitor.sock.
               The next daemon connects and gets Started, with the descriptors.
monitor dies:  the daemon still holds the stdio descriptors; it asks the spawner, now the
               workload's parent, for a replacement monitor and hands them to it (Adopt).
"""

from __future__ import annotations

import os
import select
import socket
import time
from functools import partial
from typing import TYPE_CHECKING

from seom.containers import messages
from seom.containers.journal import Journal
from seom.containers.log_writer import LogWriter
from seom.containers.messages import Adopt, Attach, Exited, Log, Resize, Started, StdinClosed, Watch, Watched
from seom.containers.poller import READABLE, Poller
from seom.containers.relay import Relay
from seom.linux import process, pty
from seom.linux.cgroup import Cgroup

if TYPE_CHECKING:
    from collections.abc import Callable

SOCKET_NAME = "monitor.sock"
EXIT_NAME = "exit.json"
JOURNAL_NAME = "journal"
LINGER_AFTER_EXIT_S = 2.0
_STATUS_TIMEOUT_MS = 5000
LINGER_FOR_CLIENTS_S = 300.0
_LOST_STATUS = 255 << 8  # the exit code of a workload whose status nobody could tell


class Workload:
    """The process a monitor watches over.

    held are the descriptors that a replacement would need, by name: stdin, stdout, stderr or
    terminal, and the two ends of the journal's staging pipe. reap returns the wait status, or None
    as long as the process runs.
    """

    def __init__(
        self,
        pid: int,
        pidfd: int,
        held: dict[str, int],
        started_at_ns: int = 0,
        reap: Callable[[], int | None] | None = None,
    ) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.held = held
        self.started_at_ns = started_at_ns or time.time_ns()
        self.reap = reap or self._wait

    def _wait(self) -> int:
        return os.waitpid(self.pid, 0)[1]


class Monitor:
    """Serves one workload until it has ended and its clients have been sent everything.

    Others may use the same poller; whoever runs it calls tick() after each round.
    """

    def __init__(
        self,
        poller: Poller,
        control: socket.socket,
        workload: Workload,
        watch: Watch,
        listener: socket.socket | None = None,
    ) -> None:
        self._poller = poller
        self._control: socket.socket | None = control
        self._workload = workload
        self._watch = watch
        self._group = Cgroup(watch.cgroup) if watch.cgroup else None
        self._listener = listener
        self._exit_status: int | None = None
        self._deadline = 0.0
        self._reported = False
        self._backlog_bytes = 0
        self._journal = self._open_journal(watch.log)
        held = workload.held
        if "terminal" in held:
            sources, stdin = [(held["terminal"], 1)], os.dup(held["terminal"])
        else:
            sources = [(held[name], number) for name, number in (("stdout", 1), ("stderr", 2))]
            stdin = held.get("stdin", -1)
        self._relay = Relay(
            self._poller,
            watch.streams,
            sources,
            stdin if stdin >= 0 else None,
            self._journal,
            self._on_stdin_closed,
        )

    def _open_journal(self, log: Log | None) -> Journal | None:
        if log is None or log.driver == "none":
            return None
        attrs = messages.encode_attributes(log.extra) if log.extra else b""
        writer = LogWriter(log.path, log.max_size_bytes, log.max_files, attrs)
        held = self._workload.held
        path = f"{self._watch.directory}/{JOURNAL_NAME}"
        return Journal(path, writer, (held["staging_out"], held["staging_in"]))

    # -- life

    def attach(self, descriptor: int, wanted: Attach) -> None:
        """Serve one more client."""
        self._relay.attach(descriptor, wanted)

    def open(self) -> None:
        """Begin to serve the workload."""
        if self._journal is not None:
            self._journal.recover()
        if self._listener is not None:
            self._poller.watch(self._listener.fileno(), READABLE, self._on_connection)
        self._poller.watch(self._workload.pidfd, READABLE, self._on_exit)
        self._watch_control()

    def timeout_ms(self) -> int | None:
        """After how long tick() is to be called at the latest; None: there is no need."""
        timeout = self._relay.timeout_ms()
        if self._exit_status is not None:
            left = max(0, int((self._deadline - time.monotonic()) * 1000)) + 1
            timeout = left if timeout is None else min(left, timeout)
        return timeout

    def tick(self) -> bool:
        """Take the step that is due; True when all is done."""
        self._relay.tick()
        if self._exit_status is None:
            return False
        if not self._reported:
            if not self._relay.ended and time.monotonic() < self._deadline:
                return False
            self._finish(self._exit_status)
        return self._relay.idle or self._clients_stopped_reading()

    def close(self) -> None:
        """Let go of everything."""
        self._relay.hang_up()
        self._drop_control()
        self._poller.forget(self._workload.pidfd)
        for descriptor in (self._workload.pidfd, *self._workload.held.values()):
            os.close(descriptor)

    def _on_exit(self, _: int) -> None:
        status = self._workload.reap()
        if status is None:
            return
        self._poller.forget(self._workload.pidfd)
        self._exit_status = status
        if self._group is not None and not self._watch.private_pids:
            self._group.kill()
        self._relay.drain()
        # Somebody else may hold the pipes open; such output is waited for only so long.
        self._deadline = time.monotonic() + LINGER_AFTER_EXIT_S

    def _finish(self, status: int) -> None:
        self._relay.finish()
        record = Exited(process.exit_code(status), time.time_ns(), self._end_group())
        if self._watch.directory:
            write_exit_record(self._watch.directory, record)
            self._close_listener()
        self._tell(record)
        self._reported = True
        self._deadline = time.monotonic() + LINGER_FOR_CLIENTS_S

    def _end_group(self) -> bool:
        """Remove the cgroup; whether the kernel killed anything in it for want of memory."""
        if self._group is None:
            return False
        try:
            oom_killed = self._group.oom_kills() > 0
            self._group.remove()
        except OSError:
            return False  # somebody else removed it, or a process in it does not die
        return oom_killed

    def _clients_stopped_reading(self) -> bool:
        """Whether those that have not read everything do not go on reading either."""
        if self._relay.backlog_bytes != self._backlog_bytes:
            self._backlog_bytes = self._relay.backlog_bytes
            self._deadline = time.monotonic() + LINGER_FOR_CLIENTS_S
        return time.monotonic() >= self._deadline

    # -- the daemon

    def _tell(self, report: messages.Report, descriptors: list[int] | None = None) -> None:
        if self._control is not None:
            try:
                messages.send(self._control, report, descriptors)
            except OSError:
                self._drop_control()

    def report_started(self) -> None:
        """Tell the daemon that the workload runs, and hand it the descriptors."""
        load = self._workload
        self._tell(
            Started(load.pid, load.started_at_ns, os.getpid(), self._watch, list(load.held)),
            [load.pidfd, *load.held.values()],
        )

    def report_watched(self) -> None:
        """Tell the daemon, which knows that the workload runs, who watches over it."""
        self._tell(Watched(os.getpid()))

    def _watch_control(self) -> None:
        if self._control is None:
            return
        self._poller.watch(self._control.fileno(), READABLE, self._on_control)

    def _drop_control(self) -> None:
        if self._control is not None:
            self._poller.forget(self._control.fileno())
            self._control.close()
            self._control = None

    def _on_control(self, _: int) -> None:
        assert self._control is not None
        try:
            data, descriptors = messages.receive(self._control)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        if not data:
            self._drop_control()
            return
        request = messages.decode_request(data)
        if isinstance(request, Attach):
            self._relay.attach(descriptors.pop(0), request)
        elif isinstance(request, Resize):
            self._resize(request)
        elif self._journal is not None:
            self._journal.reopen()
        for descriptor in descriptors:
            os.close(descriptor)

    def _resize(self, size: Resize) -> None:
        if "terminal" in self._workload.held:
            try:
                pty.set_window_size(self._workload.held["terminal"], size.rows, size.columns)
            except OSError:
                pass

    def _on_stdin_closed(self) -> None:
        if self._workload.held.pop("stdin", None) is not None:
            self._tell(StdinClosed())

    def _on_connection(self, _: int) -> None:
        assert self._listener is not None
        connection, _address = self._listener.accept()
        self._drop_control()
        self._control = connection
        self._watch_control()
        self.report_started()

    def _close_listener(self) -> None:
        if self._listener is not None:
            self._poller.forget(self._listener.fileno())
            self._listener.close()
            try:
                os.unlink(f"{self._watch.directory}/{SOCKET_NAME}")
            except FileNotFoundError:
                pass


def write_exit_record(directory: str, record: Exited) -> None:
    """Write exit.json, all of it or nothing."""
    temporary = f"{directory}/.{EXIT_NAME}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, messages.encode(record))
    finally:
        os.close(descriptor)
    os.rename(temporary, f"{directory}/{EXIT_NAME}")


def listen(directory: str) -> socket.socket:
    """Listen on the monitor's socket in a container's directory."""
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    # Through the descriptor, since a socket's name may have only 107 bytes.
    path = f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(4)
    os.close(descriptor)
    return listener


def watch_over(order: Adopt, descriptors: list[int], told: socket.socket | None, report: bool) -> None:
    """Be the monitor of a workload to its end.

    told: where the spawner tells the wait status, when the workload is not the caller's child.
    report: the daemon does not know yet that the workload is watched.
    """
    control = socket.socket(fileno=descriptors.pop(0))
    pidfd = descriptors.pop(0)
    held = {name: descriptors.pop(0) for name in order.held}
    kept = {name: descriptors.pop(0) for name in order.kept}
    reap = None if told is None else partial(wait_for_orphan, pidfd, told)
    workload = Workload(order.pid, pidfd, held, order.started_at_ns, reap)
    if "listener" in kept:
        listener: socket.socket | None = socket.socket(fileno=kept["listener"])
    else:
        listener = listen(order.watch.directory) if order.watch.directory else None
    poller = Poller()
    monitor = Monitor(poller, control, workload, order.watch, listener)
    for attachment in order.attachments:
        monitor.attach(descriptors.pop(0), attachment)
    if report:
        monitor.report_started()
    elif told is not None:
        monitor.report_watched()
    monitor.open()
    while not monitor.tick():
        poller.run_once(monitor.timeout_ms())


def wait_for_orphan(pidfd: int, told: socket.socket) -> int:
    """The wait status of a workload that is another process's child.

    From the kernel where it can tell (Linux 6.15), else from the spawner, which reaps it and writes
    the status to told.
    """
    poll = select.poll()
    poll.register(pidfd, 0)  # POLLHUP: it has been reaped, and only then does the kernel tell
    poll.register(told.fileno(), READABLE)
    for _ in range(2):
        ready = dict(poll.poll(_STATUS_TIMEOUT_MS))
        status = process.exit_status(pidfd)
        if status is not None:
            return status
        if told.fileno() in ready:
            if data := told.recv(64):
                return int(data)
            poll.unregister(told.fileno())  # the spawner has died: somebody else reaps
    return _LOST_STATUS
