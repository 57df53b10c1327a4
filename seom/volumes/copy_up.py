"""Fill a new, empty volume with what the image has where the volume is mounted."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from seom.linux.mount import RESOLVE_IN_ROOT, openat2
from seom.linux.overlay import open_overlay

FILLING = ".filling-"
"""Beside a volume's content: a copy in the making, deleted when the daemon finds it."""

_CHUNK_BYTES = 8 << 20
_OPAQUE = "trusted.overlay."


def copy_up(lowers: Sequence[str], path: str, volume: Path) -> bool:
    """Fill an empty volume with the content of path in the merged layers (topmost first).

    Owner, mode, times, extended attributes and hard links are kept; the volume's own directory
    takes those of path. Nothing happens when the volume has content or the image has nothing at path.
    The copy takes the place of the volume's directory when it is whole: whatever happens, the volume
    is empty or complete. No container may have it mounted. Returns whether something was done.
    Raises NotADirectoryError when path is a file, OSError. Blocks.
    """
    if not lowers or os.listdir(volume):
        return False
    root = open_overlay(lowers)
    try:
        source = _open_directory(root, path)
        if source is None:
            return False
        filling = volume.with_name(f"{FILLING}{secrets.token_hex(8)}")
        try:
            filling.mkdir(mode=0o700)
            target = os.open(filling, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                _Copy(target).directory(source, target)
            finally:
                os.close(target)
            filling.rename(volume)
        except BaseException:
            shutil.rmtree(filling, ignore_errors=True)
            raise
        finally:
            os.close(source)
    finally:
        os.close(root)
    return True


def _open_directory(root: int, path: str) -> int | None:
    try:
        return openat2(root, path, os.O_RDONLY | os.O_DIRECTORY, resolve=RESOLVE_IN_ROOT)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return None
        raise


class _Copy:
    """One copy of a tree; everything is named relative to directory descriptors."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._linked: dict[tuple[int, int], str] = {}

    def directory(self, source: int, target: int, where: str = "") -> None:
        """Copy the entries of a directory, then its own owner, mode, attributes and times."""
        for name in os.listdir(source):
            self._entry(source, target, name, f"{where}{name}")
        status = os.fstat(source)
        os.fchown(target, status.st_uid, status.st_gid)
        os.fchmod(target, stat.S_IMODE(status.st_mode))
        _copy_attributes(source, target)
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _entry(self, source: int, target: int, name: str, where: str) -> None:
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            self._subdirectory(source, target, name, where)
            return
        identity = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and identity in self._linked:
            os.link(self._linked[identity], name, src_dir_fd=self._top, dst_dir_fd=target)
            return
        if stat.S_ISREG(status.st_mode):
            _copy_file(source, target, name)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        else:
            os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target)
        _copy_metadata(source, target, name, status)
        if status.st_nlink > 1:
            self._linked[identity] = where

    def _subdirectory(self, source: int, target: int, name: str, where: str) -> None:
        os.mkdir(name, 0o700, dir_fd=target)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        inner_source = os.open(name, flags, dir_fd=source)
        try:
            inner_target = os.open(name, flags, dir_fd=target)
            try:
                self.directory(inner_source, inner_target, f"{where}/")
            finally:
                os.close(inner_target)
        finally:
            os.close(inner_source)


def _copy_file(source: int, target: int, name: str) -> None:
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    reader = os.open(name, os.O_RDONLY | flags, dir_fd=source)
    try:
        writer = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o600, dir_fd=target)
        try:
            while os.sendfile(writer, reader, None, _CHUNK_BYTES):
                pass
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _copy_metadata(source: int, target: int, name: str, status: os.stat_result) -> None:
    os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target)
    _copy_attributes(f"/proc/self/fd/{source}/{name}", f"/proc/self/fd/{target}/{name}")
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target, follow_symlinks=False)


def _copy_attributes(source: int | str, target: int | str) -> None:
    """Copy extended attributes, of a link and not of what it names; not those of overlayfs itself."""
    by_path = {} if isinstance(source, int) else {"follow_symlinks": False}
    try:
        for attribute in os.listxattr(source, **by_path):
            if not attribute.startswith(_OPAQUE):
                os.setxattr(target, attribute, os.getxattr(source, attribute, **by_path), **by_path)
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EPERM):
            raise
