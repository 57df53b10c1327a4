"""Forks a program for each request about container files: importing anew would take longer than the work.

    daemon --SEQPACKET: request + connection [+ root]--> server --fork--> seom.containers.archive

Started when it is first needed; ends when nobody has asked for a while, or when the daemon ends.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys

import msgspec

from seom.containers.archive import Request, View, serve
from seom.linux.process import PR_SET_PDEATHSIG, prctl, set_name

IDLE_S = 30
LARGEST_REQUEST_BYTES = 200_000
MOST_DESCRIPTORS = 2


def main() -> None:
    """Serve the socket whose descriptor is argv[1]."""
    orders = socket.socket(fileno=int(sys.argv[1]))
    set_name("seom-files")
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    _Server(orders).run()


class _Server:
    """The programs under way, each known by its pidfd and by its connection.

    A program whose connection the daemon has closed is killed: it may hang in a file system that
    does not answer.
    """

    def __init__(self, orders: socket.socket) -> None:
        self._orders = orders
        self._open = True
        self._poll = select.poll()
        self._poll.register(orders, select.POLLIN)
        self._programs: dict[int, tuple[int, int]] = {}  # connection: (process, pidfd)
        self._connections: dict[int, int] = {}  # pidfd: connection

    def run(self) -> None:
        """Until the daemon closes its end, or nobody has asked for a while; and no program is left."""
        while self._open or self._programs:
            ready = self._poll.poll(None if self._programs else IDLE_S * 1000)
            if not ready:
                # From here on the daemon's send fails, and it starts another server; what was sent counts.
                self._orders.shutdown(socket.SHUT_RD)
            for descriptor, _ in ready:
                if descriptor == self._orders.fileno():
                    self._accept()
                elif descriptor in self._connections:
                    self._forget(self._connections[descriptor])
                elif descriptor in self._programs:
                    self._poll.unregister(descriptor)
                    signal.pidfd_send_signal(self._programs[descriptor][1], signal.SIGKILL)

    def _accept(self) -> None:
        """Take one request and fork for it, or notice that no more will come."""
        data, descriptors, _, _ = socket.recv_fds(self._orders, LARGEST_REQUEST_BYTES, MOST_DESCRIPTORS)
        if not data:
            self._poll.unregister(self._orders)
            self._open = False
            return
        process = os.fork()
        if process == 0:
            # The ends of other programs' streams must be seen when they end.
            for descriptor in (self._orders.fileno(), *self._programs, *self._connections):
                os.close(descriptor)
            _serve(data, descriptors)
        connection, *root = descriptors
        for descriptor in root:
            os.close(descriptor)
        pidfd = os.pidfd_open(process)
        self._programs[connection] = process, pidfd
        self._connections[pidfd] = connection
        self._poll.register(connection, 0)  # a hang-up is always told
        self._poll.register(pidfd, select.POLLIN)

    def _forget(self, connection: int) -> None:
        """A program has ended: the daemon sees the end of the stream once both ends are closed."""
        process, pidfd = self._programs.pop(connection)
        del self._connections[pidfd]
        os.waitpid(process, 0)
        for descriptor in (connection, pidfd):
            try:
                self._poll.unregister(descriptor)
            except KeyError:
                pass
            os.close(descriptor)


def _serve(data: bytes, descriptors: list[int]) -> None:
    """The forked program; does not return."""
    status = 1
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        request = msgspec.json.decode(data, type=Request)
        if len(descriptors) > 1:
            request = _with_root(request, descriptors[1])
        serve(request, descriptors[0])
        status = 0
    except ConnectionError:
        pass  # whoever asked has gone
    except BaseException as error:
        print(f"seom: files of {data[:200]!r}: {error!r}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def _with_root(request: Request, root: int) -> Request:
    view: View = msgspec.structs.replace(request.view, root=root)
    return msgspec.structs.replace(request, view=view)
