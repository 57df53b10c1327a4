"""syncfs(2): waiting until one file system is on disk."""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syncfs.argtypes = [ctypes.c_int]


def syncfs(descriptor: int) -> None:
    """syncfs(2): write out everything of the file system that the descriptor is on."""
    if _libc.syncfs(descriptor) < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))
