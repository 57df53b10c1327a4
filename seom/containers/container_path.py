"""Paths inside a container, looked up by the kernel with the container's root as the root.

A path that ends in "/" or "/." means what a link at its end names; else it means the link itself.
"""

from __future__ import annotations

import os
import posixpath
import stat
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from seom.linux.mount import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2

INSIDE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS

# File types in the bits of Go's os.FileMode, which the API uses.
_GO_TYPES = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
}
_GO_BITS = {stat.S_ISUID: 1 << 23, stat.S_ISGID: 1 << 22, stat.S_ISVTX: 1 << 20}


class PathStat(msgspec.Struct, rename="camel"):
    """What the header X-Docker-Container-Path-Stat tells; size in bytes, mode as Go's os.FileMode."""

    name: str
    size: int
    mode: int
    mtime: str
    link_target: str


@dataclass(frozen=True, slots=True)
class Located:
    """An existing path: an O_PATH descriptor of it, its parent's, and its name there.

    followed says that the descriptor is what a final link names (or the root); parent and name are
    then not to be used. Close both descriptors when done.
    """

    descriptor: int
    parent: int
    name: bytes
    followed: bool
    status: os.stat_result

    def close(self) -> None:
        os.close(self.descriptor)
        os.close(self.parent)

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)


def absolute(path: str) -> str:
    """The path from the root, without ".", ".." and doubled slashes."""
    return posixpath.normpath("/" + path.lstrip("/"))


def follows_link(path: str) -> bool:
    """Whether a path asks for what a link at its end names."""
    return path.endswith(("/", "/.")) or absolute(path) == "/" or path == "."


def open_inside(root: int, path: str, flags: int) -> int:
    """Open an absolute path inside a root; raises OSError."""
    while True:
        try:
            return openat2(root, path, flags, resolve=INSIDE)
        except BlockingIOError:  # EAGAIN: a rename raced with the ".." of a link
            continue


def locate(root: int, path: str) -> Located:
    """Find a path inside a root; raises OSError (ENOENT, ENOTDIR, ELOOP)."""
    whole = absolute(path)
    parent_path, name = posixpath.split(whole)
    followed = follows_link(path)
    parent = open_inside(root, parent_path, os.O_PATH | os.O_DIRECTORY)
    try:
        if followed:
            descriptor = open_inside(root, whole, os.O_PATH | os.O_DIRECTORY)
        else:
            descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except OSError:
        os.close(parent)
        raise
    return Located(descriptor, parent, os.fsencode(name), followed, os.fstat(descriptor))


def base_name(path: str) -> str:
    """The last part as it names an archive's entries: "." and "/" stay what they are."""
    if path.endswith("/."):
        return "."
    return posixpath.basename(absolute(path)) or "/"


def path_stat(root: int, path: str, found: Located) -> PathStat:
    """Describe a located path."""
    status = found.status
    is_link = stat.S_ISLNK(status.st_mode)
    return PathStat(
        name=base_name(path),
        size=status.st_size,
        mode=go_mode(status.st_mode),
        mtime=_rfc3339(status.st_mtime_ns),
        link_target=_link_target(root, path, found) if is_link else "",
    )


def go_mode(mode: int) -> int:
    """st_mode in the bits of Go's os.FileMode."""
    bits = sum(value for bit, value in _GO_BITS.items() if mode & bit)
    return stat.S_IMODE(mode) & 0o777 | _GO_TYPES.get(stat.S_IFMT(mode), 0) | bits


def _link_target(root: int, path: str, found: Located) -> str:
    """Where a link leads, from the root; of a dangling one what it says."""
    try:
        target = open_inside(root, absolute(path), os.O_PATH)
    except OSError:
        written = os.fsdecode(os.readlink(found.name, dir_fd=found.parent))
        return absolute(posixpath.join(posixpath.dirname(absolute(path)), written))
    try:
        shown_root = os.readlink(f"/proc/self/fd/{root}").rstrip("/")
        return os.readlink(f"/proc/self/fd/{target}").removeprefix(shown_root) or "/"
    finally:
        os.close(target)


def _rfc3339(moment_ns: int) -> str:
    seconds, nanoseconds = divmod(moment_ns, 10**9)
    fraction = f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + fraction + "Z"
