"""A network namespace of a test's own: what a daemon does to the network stays inside it.

Namespaces belong to threads, so a short-lived thread enters one, opens what is needed there (a socket
belongs for ever to the namespace it was made in), and ends.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1

libc = ctypes.CDLL(None, use_errno=True)


class NetworkNamespace:
    """A new, empty network namespace with lo up, held by a descriptor alone."""

    def __init__(self) -> None:
        self.fd = in_new_thread(_new_namespace)

    def call(self, function: Callable[[], T]) -> T:
        """Call function in a thread inside the namespace."""

        def inside() -> T:
            enter(self.fd)
            return function()

        return in_new_thread(inside)

    def run(self, command: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
        """subprocess.run inside the namespace, with captured text output."""
        return subprocess.run(
            self.command(command), pass_fds=(self.fd,), capture_output=True, text=True, **options
        )

    def popen(self, command: Sequence[str | Path], **options: Any) -> subprocess.Popen[Any]:
        """subprocess.Popen inside the namespace; the process id is the command's own."""
        return subprocess.Popen(self.command(command), pass_fds=(self.fd,), **options)

    def command(self, command: Sequence[str | Path]) -> list[str]:
        """The command line that enters the namespace (descriptor inherited) and becomes the command."""
        return [sys.executable, "-IS", __file__, str(self.fd), *map(str, command)]

    def connect(self, port: int, host: str = "127.0.0.1", timeout_s: float = 10) -> socket.socket:
        """A TCP connection made from inside the namespace."""
        return self.call(lambda: socket.create_connection((host, port), timeout_s))

    def socket(self, family: int, kind: int) -> socket.socket:
        """A socket of the namespace."""
        return self.call(lambda: socket.socket(family, kind))

    def interfaces(self) -> set[str]:
        """The names of the network interfaces."""
        text = self.call(lambda: Path("/proc/thread-self/net/dev").read_text())
        return {line.split(":")[0].strip() for line in text.splitlines()[2:]}

    def nft_tables(self) -> set[str]:
        """The nftables tables, as "family name"; needs the nft command."""
        return {
            line.removeprefix("table ") for line in self.run(["nft", "list", "tables"]).stdout.splitlines()
        }

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> NetworkNamespace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def in_new_thread(function: Callable[[], T]) -> T:
    """What function returns or raises in a thread that is started for it."""
    result: list[T] = []
    failure: list[BaseException] = []

    def target() -> None:
        try:
            result.append(function())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def enter(fd: int) -> None:
    """setns(2) of the calling thread into a network namespace."""
    if libc.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _new_namespace() -> int:
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET) needs root")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(control, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


if __name__ == "__main__":
    enter(int(sys.argv[1]))
    os.close(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
