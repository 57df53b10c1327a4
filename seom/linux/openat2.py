"""openat2(2): opening paths that must not leave a directory."""

from __future__ import annotations

import ctypes
import os

SYS_OPENAT2 = 437  # the same number on every architecture

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = [
    ctypes.c_long,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.POINTER(_OpenHow),
    ctypes.c_size_t,
]


def openat2(directory: int, path: bytes, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2); the descriptor is closed on exec.

    With RESOLVE_IN_ROOT the directory is the root for absolute paths, ".." and symbolic links.
    Raises OSError; EAGAIN when a rename raced with a ".." in a link: try again.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    descriptor: int = _syscall(SYS_OPENAT2, directory, path, ctypes.byref(how), ctypes.sizeof(how))
    if descriptor < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno), os.fsdecode(path))
    return descriptor
