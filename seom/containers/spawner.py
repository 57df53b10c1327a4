"""The spawner: a small process with one thread, from which all others are forked.

The daemon has threads and much memory, so it never forks. It starts the spawner once, with the ends of
SEQPACKET socket pairs: "starts", "execs" and, for the spawner itself, "adoptions". Ahead of the orders
are forked: pairs of a monitor, which does nothing yet, and its child, a starter, which waits for the order
to start a container; and two servers of execs. When a starter takes an order it tells the spawner, which
forks the next pair while the container is already being started. Where the kernel tells the exit status
of any process, start servers take the place of the pairs (see start_server).

    daemon                  spawner   monitor          starter                     workload
    ------                  -------   -------          -------                     --------
    Start + [control,                 waits for        waits on "starts"
      netns, attachments] ---------------------------> takes it
                            <------------------------- "taken"
                            forks                      cgroup, overlay, pipes
                            the next                   clone3 ------------------>  namespaces, mounts,
                            pair                                                   privileges, execve
    <------------------- Started + [pidfd, stdio] ---- on control
                                      <-- Adopt + all  exits
    Attach, Resize -----------------> Relay <------------------------------------> output, input
    <------------------- Exited ----- <------------------------------------------- exits

    Exec + [control, pidfd] ----------------------------------------------------> (see exec_server)

    Adopt + [control,
      pidfd, stdio] ------> forks --> goes on where the dead monitor was

The workload is the starter's sibling, so the monitor is its parent and sees its exit. The two are apart
because a starter runs much code, and every page that Python touches after a fork is a page of memory:
the monitor, which stays, has touched little.

The spawner is the subreaper of what it forks: a workload that loses its monitor becomes its child, and
it tells the replacement monitor the wait status that only a parent can see. When the daemon's sockets
end, it ends, and so does all that was forked ahead; the others go on.
"""

from __future__ import annotations

import gc
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from seom.containers import cgroup_mounts, execution, messages, rootfs
from seom.containers.exec_server import ExecServer
from seom.containers.messages import Adopt, Log, Start, Started, StreamOptions, Watch
from seom.containers.monitor import watch_over
from seom.containers.mount_options import MountOptions
from seom.containers.start_server import StartServer, statuses_are_told
from seom.linux import capabilities, process, vfork
from seom.linux.cgroup import Cgroup, host_layout
from seom.oci.runtime_spec import Linux, Mount, Namespace, Process, Resources, RuntimeSpec, User

if TYPE_CHECKING:
    from collections.abc import Callable

PAIRS_AHEAD = 2
SERVERS = 2
MOST_SERVERS = 16
_LONG_WAIT_S = 1
_PID = struct.Struct("=i")
_MOST_UNCLAIMED = 4096


class Spawner:
    """Forks monitors and starters, keeps a few ahead of the orders, reaps."""

    def __init__(self, starts: socket.socket, execs: socket.socket, adoptions: socket.socket) -> None:
        self._starts = starts
        self._execs = execs
        self._adoptions = adoptions
        self._wake_reader, self._wake_writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._taken_reader, self._taken_writer = os.pipe2(os.O_CLOEXEC)
        self._sample = sample_order()
        self._looked_at = 0.0
        self._waited: set[socket.socket] = set()
        self._idle: set[int] = set()
        self._exec_servers: set[int] = set()
        self._start_servers: set[int] = set()
        self._handovers, self._to_handovers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lasting = statuses_are_told() and vfork.SUPPORTED
        self._busy: set[int] = set()
        self._waiting: dict[int, socket.socket] = {}
        self._unclaimed: dict[int, int] = {}

    def run(self) -> None:
        """Serve until the daemon has gone."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)
        poll = select.poll()
        adoptions, handovers = self._adoptions.fileno(), self._handovers.fileno()
        for descriptor in (adoptions, handovers, self._wake_reader, self._taken_reader):
            poll.register(descriptor, select.POLLIN)
        while True:
            self._fork_ahead()
            ready = {descriptor for descriptor, _ in poll.poll(_LONG_WAIT_S * 1000)}
            self._relieve()
            if self._taken_reader in ready:
                self._note_taken()
            if self._wake_reader in ready:
                self._reap()
            if handovers in ready:
                self._serve_adoption(self._handovers, restarted=False)
            if adoptions in ready and not self._serve_adoption(self._adoptions, restarted=True):
                return

    # -- what is forked ahead

    def _fork_ahead(self) -> None:
        while not self._lasting and len(self._idle) < PAIRS_AHEAD:
            self._fork_pair()
        while self._lasting and len(self._start_servers) < SERVERS:
            self._start_servers.add(_fork("seom-start", self._be_start_server))
        while len(self._exec_servers) < SERVERS:
            self._exec_servers.add(_fork("seom-exec", self._be_exec_server))

    def _relieve(self) -> None:
        """Fork one more server where orders wait: the others are busy, or hang on a dead file system."""
        now = time.monotonic()
        if now < self._looked_at + _LONG_WAIT_S:
            return
        self._looked_at = now
        waited, self._waited = self._waited, set(select.select([self._starts, self._execs], [], [], 0)[0])
        starved = waited & self._waited
        if self._lasting and self._starts in starved and len(self._start_servers) < MOST_SERVERS:
            self._start_servers.add(_fork("seom-start", self._be_start_server))
        if self._execs in starved and len(self._exec_servers) < MOST_SERVERS:
            self._exec_servers.add(_fork("seom-exec", self._be_exec_server))

    def _be_start_server(self) -> None:
        process.prctl(process.PR_SET_PDEATHSIG, signal.SIGKILL)
        starts, adoptions = self._starts.dup(), self._to_handovers.dup()
        self._close_all()
        warm_up(self._sample)
        StartServer(starts, adoptions).run()

    def _be_exec_server(self) -> None:
        taken = os.dup(self._taken_writer)
        execs = self._execs.dup()
        self._close_all()
        ExecServer(execs, lambda: os.close(_tell(taken))).run()

    def _fork_pair(self) -> None:
        self._idle.add(_fork("seom-monitor", self._be_monitor))

    def _be_monitor(self) -> None:
        process.prctl(process.PR_SET_PDEATHSIG, signal.SIGKILL)
        mine, starters = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        starter = os.fork()
        if starter == 0:
            mine.close()
            _run("seom-starter", lambda: self._be_starter(starters))
        starters.close()
        self._close_all()
        if mine.recv(1):  # the starter has taken an order: the spawner may die now
            process.prctl(process.PR_SET_PDEATHSIG, 0)
        data, descriptors = messages.receive(mine)
        mine.close()
        os.waitpid(starter, 0)
        if data:
            watch_over(messages.decode_adopt(data), descriptors, told=None, report=False)

    def _be_starter(self, monitor: socket.socket) -> None:
        process.prctl(process.PR_SET_PDEATHSIG, signal.SIGKILL)
        warm_up(self._sample)
        data, descriptors = messages.receive(self._starts)
        if not data:
            return
        monitor.send(b"t")
        process.prctl(process.PR_SET_PDEATHSIG, 0)
        os.write(self._taken_writer, _PID.pack(os.getppid()))
        self._close_all()
        execution.start(messages.decode_start(data), descriptors, monitor, os.getppid())

    def _note_taken(self) -> None:
        data = os.read(self._taken_reader, 4096)
        for (pid,) in _PID.iter_unpack(data):
            self._idle.discard(pid)
            self._exec_servers.discard(pid)
            self._busy.add(pid)

    def _serve_adoption(self, channel: socket.socket, restarted: bool) -> bool:
        """Fork a monitor for a workload that runs: restarted when it had one before."""
        data, descriptors = messages.receive(channel)
        if not data:
            return False
        try:
            order = messages.decode_adopt(data)
            told = self._expect_status(order)
            self._busy.add(
                _fork("seom-monitor", lambda: self._be_watcher(order, descriptors, told, restarted))
            )
            told.close()
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _be_watcher(self, order: Adopt, descriptors: list[int], told: socket.socket, restarted: bool) -> None:
        self._close_all()
        watch_over(order, descriptors, told, report=restarted)

    def _close_all(self) -> None:
        """In a monitor: give up what is the spawner's."""
        for descriptor in (self._wake_reader, self._wake_writer, self._taken_reader, self._taken_writer):
            os.close(descriptor)
        for channel in (self._starts, self._execs, self._adoptions, self._handovers, self._to_handovers):
            channel.close()
        for waiting in self._waiting.values():
            waiting.close()

    # -- children

    def _expect_status(self, order: Adopt) -> socket.socket:
        """A socket on which the replacement monitor learns its workload's wait status."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        status = self._unclaimed.pop(order.pid, None)
        if status is None:
            self._waiting[order.pid] = ours
        else:
            ours.send(str(status).encode())
            ours.close()
        return theirs

    def _reap(self) -> None:
        os.read(self._wake_reader, 4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            groups = (self._idle, self._exec_servers, self._start_servers, self._busy)
            ours = next((group for group in groups if pid in group), None)
            if ours is not None:
                ours.discard(pid)
                continue
            waiting = self._waiting.pop(pid, None)
            if waiting is not None:
                try:
                    waiting.send(str(status).encode(), socket.MSG_NOSIGNAL)
                except OSError:
                    pass
                waiting.close()
            else:
                self._remember(pid, status)

    def _remember(self, pid: int, status: int) -> None:
        self._unclaimed[pid] = status
        while len(self._unclaimed) > _MOST_UNCLAIMED:
            del self._unclaimed[next(iter(self._unclaimed))]


def _tell(taken: int) -> int:
    """Tell the spawner that the caller waits for orders no longer."""
    try:
        os.write(taken, _PID.pack(os.getpid()))
    except BrokenPipeError:
        pass  # it has died; the next one has servers of its own
    return taken


def _fork(name: str, work: Callable[[], None]) -> int:
    """Fork a process that does the work and ends: its pid."""
    pid = os.fork()
    if pid == 0:
        _run(name, work)
    return pid


def _run(name: str, work: Callable[[], None]) -> NoReturn:
    """The whole life of a forked process."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        process.set_name(name)
        work()
        os._exit(0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(1)


def prepare() -> None:
    """Look up and load now what every monitor would otherwise do again for itself."""
    host_layout()
    cgroup_mounts.hierarchies()
    capabilities.bounding_bits()
    capabilities.bounding_set()
    gc.collect()
    gc.freeze()


def warm_up(sample: bytes) -> None:
    """Do in vain what starting a workload does, so that the memory it writes is the monitor's own before.

    After a fork each page costs a fault when it is first written, and Python writes wherever it reads.
    """
    order = messages.decode_start(sample)
    Cgroup("none").exists()
    for mount in order.spec.mounts:
        MountOptions.parse(mount.options)
    try:
        rootfs.mount_overlay(["/nonexistent"], "/nonexistent", "/nonexistent")
    except OSError:
        pass
    stdio, held = execution.make_pipes(order.streams, User())
    for descriptor in (*(stdio or ()), *held.values()):
        os.close(descriptor)
    messages.encode(Started(1, 1, 1, Watch(order.streams, order.log)))


def sample_order() -> bytes:
    """An order like those that will come."""
    mounts = [
        Mount("/proc", "proc", "proc", ["nosuid", "noexec", "nodev"]),
        Mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        Mount("/etc/hosts", "bind", "/etc/hosts", ["rbind", "rprivate"]),
    ]
    linux = Linux(namespaces=[Namespace("pid")], masked_paths=["/proc/kcore"], resources=Resources())
    spec = RuntimeSpec("1.2.0", process=Process("/", args=["true"]), mounts=mounts, linux=linux)
    log = Log("json-file", "/dev/null")
    return messages.encode(Start("sample", "", spec, None, "sample", StreamOptions(), log, False, False))


def main() -> None:
    """Run as a process of its own; arguments: the sockets' descriptors, the limit of descriptors."""
    process.set_name("seom-spawner")
    process.prctl(process.PR_SET_CHILD_SUBREAPER, 1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sockets = [socket.socket(fileno=int(argument)) for argument in sys.argv[1:4]]
    for each in sockets:
        each.set_inheritable(False)
    limits = int(sys.argv[4]), resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    prepare()
    Spawner(*sockets).run()


if __name__ == "__main__":
    main()
