"""Pseudo-terminals, addressed by descriptor so that no path of a container is trusted."""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import termios

TIOCGPTPEER = 0x5441
TIOCSPTLCK = 0x40045431
TIOCGPTN = 0x80045430
_PTMX = os.makedev(5, 2)


def open_master(path: str) -> int:
    """Open a devpts multiplexer (".../pts/ptmx") and unlock the new terminal: its master side.

    Raises OSError (ENODEV) when the path is not the multiplexer's device.
    """
    master = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        status = os.fstat(master)
        if not stat.S_ISCHR(status.st_mode) or status.st_rdev != _PTMX:
            raise OSError(19, "not a pseudo-terminal multiplexer", path)
        fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 0))
    except BaseException:
        os.close(master)
        raise
    return master


def open_slave(master: int) -> int:
    """Open the other side of a terminal without looking up a path (ioctl_tty(2), TIOCGPTPEER)."""
    return fcntl.ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def number(master: int) -> int:
    """N of /dev/pts/N."""
    return int(struct.unpack("I", fcntl.ioctl(master, TIOCGPTN, bytes(4)))[0])


def set_window_size(terminal: int, rows: int, columns: int) -> None:
    """Set the terminal's size in characters; its foreground group gets SIGWINCH when it changed."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def make_controlling(terminal: int) -> None:
    """Make the terminal the controlling one of the session that the caller leads."""
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
