"""Reading single files of a container's root while nobody has it mounted.

A root is given as overlay layers, topmost first (one folder for a plain root or /proc/PID/root).
Every step goes by descriptor and never follows a link that the kernel resolves, so neither an image
nor a running container can lead the reader out of the root.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack

OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
MAX_LINKS = 40
MAX_BYTES = 4 << 20


def read_layered(layers: Sequence[str], path: str) -> bytes | None:
    """The content of a regular file as a process inside would see it; None when there is none.

    Raises OSError: ELOOP for too many symbolic links, EFBIG above 4 MiB.
    """
    with ExitStack() as stack:
        roots = [_open(layer, None, stack) for layer in layers]
        here: list[list[int]] = [roots]
        parts = [part for part in reversed(path.split("/")) if part]
        links = 0
        while parts:
            part = parts.pop()
            if part == ".":
                continue
            if part == "..":
                here = here[:-1] or [roots]
                continue
            found = _step(here[-1], part, stack)
            if not found:
                return None
            mode = os.fstat(found[0]).st_mode
            if stat.S_ISLNK(mode):
                links += 1
                if links > MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                target = os.readlink("", dir_fd=found[0])
                here = [roots] if target.startswith("/") else here
                parts += [part for part in reversed(target.split("/")) if part]
            elif stat.S_ISDIR(mode):
                here = [*here, found]
            elif stat.S_ISREG(mode):
                return None if parts else _content(found[0], path)
            else:
                return None
    return None


def _step(folders: list[int], name: str, stack: ExitStack) -> list[int]:
    """One name in merged folders: the folders of all layers that have it, or one file."""
    found: list[int] = []
    for folder in folders:
        try:
            fd = _open(name, folder, stack)
        except (FileNotFoundError, NotADirectoryError):
            continue
        status = os.fstat(fd)
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            break
        if not stat.S_ISDIR(status.st_mode):
            return found or [fd]
        found.append(fd)
        if _opaque(fd):
            break
    return found


def _open(name: str, folder: int | None, stack: ExitStack) -> int:
    flags = os.O_PATH | os.O_CLOEXEC | (os.O_NOFOLLOW if folder is not None else 0)
    fd = os.open(name, flags, dir_fd=folder)
    stack.callback(os.close, fd)
    return fd


def _opaque(fd: int) -> bool:
    for attribute in OPAQUE:
        try:
            if os.getxattr(f"/proc/self/fd/{fd}", attribute) == b"y":
                return True
        except OSError:
            continue
    return False


def _content(fd: int, path: str) -> bytes:
    with open(f"/proc/self/fd/{fd}", "rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
    return content
