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
from seom.linux.process import set_name

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
    children: set[int] = set()
    while True:
        # A child's end is noticed at the next request or second.
        ready = select.select([orders], [], [], 1 if children else IDLE_S)[0]
        _reap(children)
        if ready:
            if not _accept(orders, children):
                return
        elif not children:
            # From here on the daemon's send fails, and it starts another server; what it sent before counts.
            orders.shutdown(socket.SHUT_RD)
            while _accept(orders, children):
                pass
            return


def _accept(orders: socket.socket, children: set[int]) -> bool:
    """Take one request and fork for it; false when the daemon has closed its end."""
    data, descriptors, _, _ = socket.recv_fds(orders, LARGEST_REQUEST_BYTES, MOST_DESCRIPTORS)
    if not data:
        return False
    child = os.fork()
    if child == 0:
        orders.close()
        _serve(data, descriptors)
    children.add(child)
    for descriptor in descriptors:
        os.close(descriptor)
    return True


def _serve(data: bytes, descriptors: list[int]) -> None:
    """The forked program; does not return."""
    status = 1
    try:
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


def _reap(children: set[int]) -> None:
    for child in tuple(children):
        if os.waitpid(child, os.WNOHANG)[0]:
            children.discard(child)
