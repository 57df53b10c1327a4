"""Terminals of the runtime: handed to a supervisor, or connected with the caller's own."""

from __future__ import annotations

import os
import select
import signal
import socket
import termios
import tty

from seom.linux import pty

CHUNK_BYTES = 65536


def send_terminal(path: str, master: int) -> None:
    """Hand a terminal's master side to whoever listens on the console socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(path)
        socket.send_fds(connection, [b"/dev/ptmx"], [master])


def relay_until_exit(master: int, pidfd: int) -> None:
    """Connect the caller's terminal (descriptors 0 and 1) with a container's until its process ends."""
    saved = termios.tcgetattr(0) if os.isatty(0) else None
    if saved is not None:
        tty.setraw(0)
        signal.signal(signal.SIGWINCH, lambda *_: _copy_size(master))
        _copy_size(master)
    try:
        _relay(master, pidfd)
    finally:
        if saved is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, saved)


def _relay(master: int, pidfd: int) -> None:
    poll = select.poll()
    for descriptor in (0, master, pidfd):
        poll.register(descriptor, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if master in ready and not _copy(master, 1):
            return
        if 0 in ready and not _copy(0, master):
            poll.unregister(0)
        if pidfd in ready and master not in ready:
            return


def _copy(source: int, target: int) -> bool:
    """Copy once; False at the end."""
    try:
        data = os.read(source, CHUNK_BYTES)
    except OSError:
        return False
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]
    return bool(data)


def _copy_size(master: int) -> None:
    size = os.get_terminal_size(0)
    pty.set_window_size(master, size.lines, size.columns)
