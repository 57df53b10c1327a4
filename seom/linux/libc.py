"""The C library, how it is called, and the one way its failures become OSError.

Every wrapper of a system call in this package is made here once, at import: a process forked
later finds the function resolved and its argument types declared.
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

libc = ctypes.CDLL(None, use_errno=True)
_with_gil = ctypes.PyDLL(None, use_errno=True)

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_SYMLINK_NOFOLLOW = 0x100
AT_RECURSIVE = 0x8000

# Numbers from 424 on are the same on every architecture; the older ones are not.
_OLD_NUMBERS = {
    "x86_64": {"pivot_root": 155, "keyctl": 250, "clone": 56, "seccomp": 317},
    "aarch64": {"pivot_root": 41, "keyctl": 219, "clone": 220, "seccomp": 277},
}
_NUMBERS = {
    **_OLD_NUMBERS.get(os.uname().machine, {}),
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
}


def function(name: str, *argument_types: Any, keep_gil: bool = False) -> Callable[..., int]:
    """A function of the C library that returns int and sets errno.

    With keep_gil the interpreter's lock is held during the call: for calls after which the memory
    may belong to another process (see vfork).
    """
    call = (_with_gil if keep_gil else libc)[name]
    call.argtypes = argument_types
    call.restype = ctypes.c_int
    return call


def system_call(name: str, *argument_types: Any, keep_gil: bool = False) -> Callable[..., int]:
    """A system call the C library may have no wrapper for, by its number.

    With keep_gil the interpreter's lock is held during the call: for calls that return twice.
    On an architecture without a known number the call fails with ENOSYS.
    """
    call = (_with_gil if keep_gil else libc)["syscall"]
    call.argtypes = (ctypes.c_long, *argument_types)
    call.restype = ctypes.c_long
    number = _NUMBERS.get(name, -1)

    def invoke(*arguments: Any) -> int:
        return int(call(number, *arguments))

    return invoke


def check(result: int, call: str, path: str | None = None) -> int:
    """Return result, or raise OSError with errno, the call's name and the path when it is negative."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}", path)
    return result
