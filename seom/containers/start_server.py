"""The process that starts containers, one after another, where the kernel tells the status of any process.

    daemon                  start server                 spawner                     monitor
    ------                  ------------                 -------                     -------
    Start + [control, ...]> cgroup, overlay, pipes
                            clone3 (a child of the spawner) ...... execve
    <- Started + [pidfd ..] Adopt + [control, ...] ----> forks ------------------->  watches over it
    <- Watched ---------------------------------------------------------------------

Like the exec server it lives on from one to the next, so its memory is its own already, and a start costs
hardly a page fault. The workload is the spawner's child: the spawner reaps it and tells the monitor; should
the spawner have died, the kernel does (PIDFD_GET_INFO, Linux 6.15). On an older kernel the exit code could
then be lost, so starters are used there (see spawner).
"""

from __future__ import annotations

import gc
import os
import socket

from seom.containers import execution, messages
from seom.linux import process

MOST_ORDERS = 200  # each leaves some objects behind (see vfork)


class StartServer:
    """Takes orders from a socket that several servers share."""

    def __init__(self, starts: socket.socket, adoptions: socket.socket) -> None:
        self._starts = starts
        self._adoptions = adoptions

    def run(self) -> None:
        """Carry out orders until there are no more, or there have been many."""
        gc.disable()  # a collection in a borrowing child would close the parent's files in vain
        for _ in range(MOST_ORDERS):
            data, descriptors = messages.receive(self._starts)
            if not data:
                return
            execution.start(messages.decode_start(data), descriptors, self._adoptions, monitor_pid=0)


def statuses_are_told() -> bool:
    """Whether the kernel tells the exit status of a process that was reaped by somebody else."""
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    pidfd = os.pidfd_open(pid)
    os.waitpid(pid, 0)
    status = process.exit_status(pidfd)
    os.close(pidfd)
    return status == 7 << 8
