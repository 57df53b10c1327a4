"""Mount points inside a root that is not trusted: found, or made, without ever leaving it."""

from __future__ import annotations

import errno
import os
import stat

from seom.linux import mount as mnt

_MOST_LINKS = 40


def open_target(root: int, path: str, *, directory: bool, follow: bool = True) -> int:
    """An O_PATH descriptor of path inside root, made with its parents where it is missing.

    Links are followed as inside the container. With follow=False a link is an error (ELOOP).
    Raises NotADirectoryError when a directory is to be mounted on a file, and IsADirectoryError
    for the reverse.
    """
    resolve = mnt.RESOLVE_IN_ROOT | (0 if follow else mnt.RESOLVE_NO_SYMLINKS)
    try:
        target = mnt.openat2(root, path, os.O_PATH, resolve=resolve)
    except FileNotFoundError:
        parent, name = open_parent(root, path)
        try:
            if directory:
                os.mkdir(name, 0o755, dir_fd=parent)
            else:
                flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
                os.close(os.open(name, flags, 0o644, dir_fd=parent))
        finally:
            os.close(parent)
        target = mnt.openat2(root, path, os.O_PATH, resolve=resolve)
    if stat.S_ISDIR(os.fstat(target).st_mode) != directory:
        os.close(target)
        number = errno.ENOTDIR if directory else errno.EISDIR
        raise OSError(
            number, f"cannot mount {'a directory on a file' if directory else 'a file on a directory'}", path
        )
    return target


def open_parent(root: int, path: str) -> tuple[int, str]:
    """An O_PATH descriptor of the directory that holds, or will hold, path, and the last name.

    Missing directories are made; a link that leads nowhere yet is followed to where it points.
    """
    here, rest = "", _parts(path)
    try:
        directory = "/".join(rest[:-1]) or "."
        parent = mnt.openat2(root, directory, os.O_PATH | os.O_DIRECTORY, resolve=mnt.RESOLVE_IN_ROOT)
    except FileNotFoundError:
        pass  # step by step
    else:
        if rest and rest[-1] != ".." and _read_link(parent, rest[-1]) is None:
            return parent, rest[-1]
        os.close(parent)
    links = 0
    while True:
        parent = mnt.openat2(root, here or ".", os.O_PATH | os.O_DIRECTORY, resolve=mnt.RESOLVE_IN_ROOT)
        if not rest:
            raise OSError(errno.EBUSY, "the root itself cannot be made", path)
        name = rest[0]
        link = _read_link(parent, name)
        if link is not None:
            os.close(parent)
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            here, rest = ("" if link.startswith("/") else here), _parts(link) + rest[1:]
            continue
        if name == "..":
            os.close(parent)
            here, rest = os.path.dirname(here), rest[1:]
            continue
        if len(rest) == 1:
            return parent, name
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            pass
        finally:
            os.close(parent)
        here, rest = f"{here}/{name}" if here else name, rest[1:]


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _read_link(parent: int, name: str) -> str | None:
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError:
        return None
