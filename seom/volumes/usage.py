"""How much disk a directory takes."""

from __future__ import annotations

import os
from pathlib import Path


def disk_usage(directory: Path) -> int:
    """Bytes that everything below a directory takes on disk, as ``du -x`` counts them, without itself.

    A hard link counts once, other file systems do not count, what vanishes meanwhile is left out.
    """
    try:
        top = directory.lstat()
    except FileNotFoundError:
        return 0
    total_bytes, seen = 0, {top.st_ino}
    pending = [str(directory)]
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
                if status.st_dev != top.st_dev or status.st_ino in seen:
                    continue
                if status.st_nlink > 1:
                    seen.add(status.st_ino)
                total_bytes += status.st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
    return total_bytes
