"""What a container changed in its image's files: its overlay's upper directory against the layers."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from seom.linux.mount import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from seom.linux.overlay import open_overlay
from seom.storage.unpack import OPAQUE_ATTRIBUTE, is_whiteout

# Made in every container as places to mount on: no change of the container's own.
MOUNT_POINTS = frozenset(
    {
        b".dockerenv",
        b"dev",
        b"dev/console",
        b"dev/mqueue",
        b"dev/pts",
        b"dev/shm",
        b"etc",
        b"etc/hostname",
        b"etc/hosts",
        b"etc/resolv.conf",
        b"proc",
        b"sys",
        b"sys/fs",
        b"sys/fs/cgroup",
    }
)


class Kind(IntEnum):
    """The Engine API's numbers."""

    MODIFIED = 0
    ADDED = 1
    DELETED = 2


@dataclass(frozen=True, slots=True)
class Change:
    """One changed path, from the container's root."""

    kind: Kind
    path: str

    def document(self) -> dict[str, object]:
        """The element of GET /containers/{id}/changes."""
        return {"Path": self.path, "Kind": int(self.kind)}


def changes(lowers: Sequence[str], upper: str) -> list[Change]:
    """The paths that a container added, modified or deleted, sorted; parents of changes count as modified.

    lowers are its image's layers, topmost first. Raises OSError. Blocks.
    """
    root = open_overlay(lowers) if lowers else -1
    try:
        found = list(_Comparison(root, upper).directory(b""))
    finally:
        if root >= 0:
            os.close(root)
    return sorted(found, key=lambda change: change.path)


def unused_mount_points(lowers: Sequence[str], upper: str) -> set[bytes]:
    """Paths (relative) in upper that are only places to mount on: to be left out of a committed layer.

    Raises OSError. Blocks.
    """
    root = open_overlay(lowers) if lowers else -1
    try:
        comparison = _Comparison(root, upper)
        for _ in comparison.directory(b""):
            pass
        return comparison.ignored
    finally:
        if root >= 0:
            os.close(root)


class _Comparison:
    """A walk through upper; root is a descriptor of the merged layers, -1 for none."""

    def __init__(self, root: int, upper: str) -> None:
        self._root = root
        self._upper = os.fsencode(upper)
        self.ignored: set[bytes] = set()

    def directory(self, path: bytes) -> Iterator[Change]:
        """The changes in a directory of upper, with everything below it, but not its own."""
        location = os.path.join(self._upper, path) if path else self._upper
        names = {entry.name: entry for entry in os.scandir(location)}
        for name, entry in names.items():
            below = os.path.join(path, name)
            yield from self._entry(below, entry)
        if _is_opaque(location):
            for name in self._names_below(path):
                if name not in names:
                    yield _change(Kind.DELETED, os.path.join(path, name))

    def _entry(self, path: bytes, entry: os.DirEntry[bytes]) -> Iterator[Change]:
        status = entry.stat(follow_symlinks=False)
        old = self._status_below(path)
        if is_whiteout(status):
            if old is not None:
                yield _change(Kind.DELETED, path)
            return
        if not stat.S_ISDIR(status.st_mode):
            if old is None and self._ignore(path, stat.S_ISREG(status.st_mode) and not status.st_size):
                return
            yield _change(Kind.ADDED if old is None else Kind.MODIFIED, path)
            return
        inner = list(self.directory(path))
        if old is None:
            if not self._ignore(path, not inner and self._holds_only_ignored(path)):
                yield _change(Kind.ADDED, path)
        elif inner or self._differs(path, status, old):
            yield _change(Kind.MODIFIED, path)
        yield from inner

    def _ignore(self, path: bytes, is_empty: bool) -> bool:
        if is_empty and path in MOUNT_POINTS:
            self.ignored.add(path)
            return True
        return False

    def _holds_only_ignored(self, path: bytes) -> bool:
        location = os.path.join(self._upper, path)
        return all(path + b"/" + name in self.ignored for name in os.listdir(location))

    def _differs(self, path: bytes, new: os.stat_result, old: os.stat_result) -> bool:
        if not stat.S_ISDIR(old.st_mode):
            return True
        if (new.st_mode, new.st_uid, new.st_gid) != (old.st_mode, old.st_uid, old.st_gid):
            return True
        # A mount point made inside changes the time too.
        made_inside = any(os.path.dirname(ignored) == path for ignored in self.ignored)
        return new.st_mtime_ns != old.st_mtime_ns and not made_inside

    def _status_below(self, path: bytes) -> os.stat_result | None:
        parent = self._open_below(os.path.dirname(path))
        if parent is None:
            return None
        try:
            return os.stat(os.path.basename(path), dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return None
        finally:
            os.close(parent)

    def _names_below(self, path: bytes) -> list[bytes]:
        directory = self._open_below(path, os.O_RDONLY)
        if directory is None:
            return []
        try:
            return [os.fsencode(name) for name in os.listdir(directory)]
        finally:
            os.close(directory)

    def _open_below(self, path: bytes, flags: int = os.O_PATH) -> int | None:
        """A directory of the layers; a link in place of one counts as missing."""
        if self._root < 0:
            return None
        beneath = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
        try:
            return openat2(self._root, os.fsdecode(path) or ".", flags | os.O_DIRECTORY, resolve=beneath)
        except OSError:
            return None


def _change(kind: Kind, path: bytes) -> Change:
    return Change(kind, "/" + path.decode(errors="replace"))


def _is_opaque(directory: bytes) -> bool:
    try:
        return os.getxattr(directory, OPAQUE_ATTRIBUTE, follow_symlinks=False) == b"y"
    except OSError:
        return False
