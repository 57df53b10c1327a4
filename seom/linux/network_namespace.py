"""Network namespaces held by descriptor, never by a name in the file system.

setns(2) and unshare(2) act on the calling thread; every function here that moves does so in a
thread of its own, which ends there, so that no other code ever runs in the wrong namespace.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import TypeVar

CLONE_NEWNET = 0x40000000

Result = TypeVar("Result")

_libc = ctypes.CDLL(None, use_errno=True)


def unshare_network() -> None:
    """Move the calling thread to a new, empty network namespace (unshare(2), CLONE_NEWNET)."""
    _check(_libc.unshare(CLONE_NEWNET), "unshare")


def enter_network(fd: int) -> None:
    """Move the calling thread to the network namespace of a descriptor (setns(2))."""
    _check(_libc.setns(fd, CLONE_NEWNET), "setns")


def open_own_network() -> int:
    """A descriptor of the calling thread's network namespace."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def open_network_of(pid: int) -> int:
    """A descriptor of a process's network namespace; OSError ENOENT or ESRCH when it is gone."""
    return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def in_own_thread(function: Callable[[], Result]) -> Result:
    """Run function in a new thread that ends afterwards; returns or raises what it does."""
    results: list[Result] = []
    failures: list[BaseException] = []

    def body() -> None:
        try:
            results.append(function())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=body, name="netns")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def inside(fd: int, function: Callable[[], Result]) -> Result:
    """Run function in the network namespace of a descriptor, in a thread of its own."""

    def enter() -> Result:
        enter_network(fd)
        return function()

    return in_own_thread(enter)


def _check(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
