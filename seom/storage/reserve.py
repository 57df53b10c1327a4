"""Disk space kept back for the database, so that a full disk can be cleaned up.

Removing a container or an image frees space, but first it writes a few kilobytes. When the disk is
full, the reserve is given up, the write succeeds, and the reserve is filled again once there is room.
"""

from __future__ import annotations

import os
from pathlib import Path

RESERVE_BYTES = 4 * 1024 * 1024
ROOM_FACTOR = 3
"""The reserve is filled only where this many times its size is free."""


class Reserve:
    """A file of allocated, unused blocks."""

    def __init__(self, path: Path, size_bytes: int = RESERVE_BYTES) -> None:
        self._path = path
        self._size_bytes = size_bytes
        self._filled = path.exists()

    def fill(self) -> None:
        """Allocate the blocks, unless they are or there is little room."""
        if self._filled:
            return
        try:
            room = os.statvfs(self._path.parent)
            if room.f_bavail * room.f_frsize < ROOM_FACTOR * self._size_bytes:
                return
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, self._size_bytes)
            finally:
                os.close(fd)
        except OSError:
            self._path.unlink(missing_ok=True)
            return
        self._filled = True

    def release(self) -> bool:
        """Free the blocks; False when there was nothing to free."""
        if not self._filled:
            return False
        self._path.unlink(missing_ok=True)
        self._filled = False
        return True
