"""The spawner: a small process with one thread that forks a monitor for each workload.

The daemon has threads and much memory, so it never forks. It starts the spawner once, with one end of
a SEQPACKET socket pair as descriptor 3, and sends an order for each workload:

    daemon                         spawner                     monitor                workload
    ------                         -------                     -------                --------
    Start + [control, netns,
             attachments] ------>  fork -------------------->  (execution.start)
                                   reads the next order        cgroup, overlay
                                                               clone3 ------------->  namespaces, mounts,
                                                                                      privileges, execve
    <----------------------------- Started + [pidfd, stdio] -- on control
    ...
    <----------------------------------------------- Exited -- <------- exits -----

    Exec + [control, pidfd] ---->  fork -------------------->  setns(pid), clone3 ->  cgroup, setns,
                                                                                      privileges, execve
    <----------------------------- Started + [pidfd, stdio] --

    Adopt + [control, pidfd,
             stdio] ------------>  fork -------------------->  goes on where the dead monitor was

It is the subreaper of what it forks: a workload that loses its monitor becomes its child, and it tells
the replacement monitor the wait status that only a parent can see. When the daemon's socket ends, it
ends; monitors go on.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys

from seom.containers import cgroup_mounts, execution, messages
from seom.containers.messages import Adopt, Exec, Order, Start
from seom.linux import capabilities, process
from seom.linux.cgroup import host_layout

ORDERS_FD = 3
_MOST_UNCLAIMED = 4096


class Spawner:
    """Reads orders, forks monitors, reaps."""

    def __init__(self, orders: socket.socket) -> None:
        self._orders = orders
        self._wake_reader, self._wake_writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._monitors: set[int] = set()
        self._waiting: dict[int, socket.socket] = {}
        self._unclaimed: dict[int, int] = {}

    def run(self) -> None:
        """Serve until the daemon has gone."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self._orders.fileno(), select.POLLIN)
        poll.register(self._wake_reader, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._wake_reader in ready:
                self._reap()
            if self._orders.fileno() in ready and not self._serve_order():
                return

    def _serve_order(self) -> bool:
        data, descriptors = messages.receive(self._orders)
        if not data:
            return False
        try:
            order = messages.decode_order(data)
            told = self._expect_status(order) if isinstance(order, Adopt) else None
            pid = os.fork()
            if pid == 0:
                self._become_monitor(order, descriptors, told)
            self._monitors.add(pid)
            if told is not None:
                told.close()
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _become_monitor(self, order: Order, descriptors: list[int], told: socket.socket | None) -> None:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in (self._wake_reader, self._wake_writer):
                os.close(descriptor)
            self._orders.close()
            for waiting in self._waiting.values():
                waiting.close()
            process.set_name("seom-monitor")
            control = socket.socket(fileno=descriptors.pop(0))
            if isinstance(order, Start):
                execution.start(order, control, descriptors)
            elif isinstance(order, Exec):
                execution.execute(order, control, descriptors)
            else:
                execution.adopt(order, control, descriptors, told)
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(1)

    # -- children

    def _expect_status(self, order: Adopt) -> socket.socket | None:
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
            if pid in self._monitors:
                self._monitors.discard(pid)
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


def prepare() -> None:
    """Look up and load now what every monitor would otherwise do again for itself."""
    host_layout()
    cgroup_mounts.hierarchies()
    capabilities.last_cap()
    capabilities.bounding_set()
    gc.collect()
    gc.freeze()


def main() -> None:
    """Run as a process of its own: see the module's picture."""
    process.set_name("seom-spawner")
    process.prctl(process.PR_SET_CHILD_SUBREAPER, 1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    orders = socket.socket(fileno=ORDERS_FD)
    orders.set_inheritable(False)
    prepare()
    Spawner(orders).run()


if __name__ == "__main__":
    main()
