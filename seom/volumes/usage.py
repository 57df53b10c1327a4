"""How much a directory holds."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_BLOCK_BYTES = 512
_PAGE_BYTES = 4096


def disk_usage(directory: Path | str) -> int:
    """Bytes of the files below a directory, as ``du --apparent-size`` counts files.

    A hard link counts once, of a sparse file only what is stored, directories and other file
    systems do not count, what vanishes meanwhile is left out. 0 for a missing directory. Blocks.
    """
    try:
        device = os.lstat(directory).st_dev
    except FileNotFoundError:
        return 0
    total_bytes = 0
    linked: set[int] = set()
    pending = [os.fspath(directory)]
    while pending:
        try:
            entries = os.scandir(pending.pop())
        except (FileNotFoundError, NotADirectoryError):
            continue
        with entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if status.st_dev != device or status.st_ino in linked:
                    continue
                if stat.S_ISDIR(status.st_mode):
                    pending.append(entry.path)
                    continue
                if status.st_nlink > 1:
                    linked.add(status.st_ino)
                total_bytes += _stored(status)
    return total_bytes


def _stored(status: os.stat_result) -> int:
    """A file's size, of a sparse one what its blocks hold; small files may live without any block."""
    if status.st_size <= _PAGE_BYTES:
        return status.st_size
    return min(status.st_size, status.st_blocks * _BLOCK_BYTES)
