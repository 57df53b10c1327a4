"""The process that runs execs: it starts them and watches over them, many at a time.

    daemon                       exec server                    new process (its child)
    ------                       -----------                    -----------
    Exec + [control, pidfd,
            attachments] ------> setns(pid), clone3 ----------> cgroup, setns, privileges, execve
    <--- Started + [pidfd, stdio]
    Attach, Resize ------------> Relay <----------------------> output, input
    <--- Exited ---------------- <----------------------------- exits

Unlike a container's monitor it lives on from one to the next, so its memory is its own already: an exec
costs no fork and hardly a page fault. Each new process leaves some objects behind in it (see vfork), so
after a few hundred it takes no more orders, and ends with the last of its processes.
"""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Callable

from seom.containers import execution, messages
from seom.containers.launch import SandboxError
from seom.containers.messages import Exec, Failed, Started, Watch
from seom.containers.monitor import Monitor, Workload
from seom.containers.poller import READABLE, Poller

MOST_ORDERS = 200


class ExecServer:
    """Takes orders from a socket that several servers share."""

    def __init__(self, orders: socket.socket, retire: Callable[[], None]) -> None:
        """retire is called when another server should take over."""
        self._orders = orders
        self._retire = retire
        self._left = MOST_ORDERS
        self._poller = Poller()
        self._monitors: list[Monitor] = []

    def run(self) -> None:
        """Serve until there are no more orders and the last process has ended."""
        gc.disable()  # a collection in a borrowing child would close the parent's files in vain
        self._poller.watch(self._orders.fileno(), READABLE, self._on_order)
        while self._left or self._monitors:
            timeouts = [one for one in (each.timeout_ms() for each in self._monitors) if one is not None]
            self._poller.run_once(min(timeouts, default=None))
            for monitor in list(self._monitors):
                if monitor.tick():
                    monitor.close()
                    self._monitors.remove(monitor)

    def _on_order(self, _: int) -> None:
        try:
            data, descriptors = messages.receive(self._orders, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return  # another server was quicker
        self._left = self._left - 1 if data else 0
        if not self._left:
            self._poller.forget(self._orders.fileno())
            self._orders.close()
            self._retire()
        if data:
            self._serve(messages.decode_exec(data), descriptors)

    def _serve(self, order: Exec, descriptors: list[int]) -> None:
        control = socket.socket(fileno=descriptors.pop(0))
        container = descriptors.pop(0)
        try:
            launched = execution.start_exec(order, container)
        except SandboxError as error:
            execution.send(control, Failed(error.stage, error.errno, error.message), [])
            control.close()
            for descriptor in descriptors:
                os.close(descriptor)
            return
        finally:
            os.close(container)
        watch = Watch(order.streams)
        started = Started(launched.pid, launched.started_at_ns, os.getpid(), watch, list(launched.held))
        execution.send(control, started, [launched.pidfd, *launched.held.values()])
        workload = Workload(launched.pid, launched.pidfd, launched.held, launched.started_at_ns)
        monitor = Monitor(self._poller, control, workload, watch)
        for attachment, descriptor in zip(order.attachments, descriptors, strict=True):
            monitor.attach(descriptor, attachment)
        monitor.open()
        self._monitors.append(monitor)
