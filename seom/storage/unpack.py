"""Extract a layer's tar stream into a directory that overlayfs can use as a lower layer.

The archive is not trusted: every path is resolved by the kernel with the directory as its root
(openat2, RESOLVE_IN_ROOT), so "..", absolute names and symbolic links cannot leave it.
Whiteouts become what overlayfs wants: ".wh.x" a character device 0/0 named x, ".wh..wh..opq"
the attribute trusted.overlay.opaque on its directory. See the OCI image specification, layer.md.
"""

from __future__ import annotations

import errno
import os
import posixpath
import shutil
import stat
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from seom.errors import InvalidParameter
from seom.linux.mount import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2
from seom.storage.blobs import Readable
from seom.storage.tar_headers import (
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    HARD_LINK,
    REGULAR,
    SYMBOLIC_LINK,
    Entry,
    TarStream,
    read_entries,
)

WHITEOUT = b".wh."
WHITEOUT_META = b".wh..wh."
OPAQUE = b".wh..wh..opq"
OPAQUE_ATTRIBUTE = b"trusted.overlay.opaque"
OVERLAY_ATTRIBUTES = (b"trusted.overlay.", b"user.overlay.")

_CACHED_FOLDERS = 64
_MOST_LINKS = 40
_LARGEST_ID = (1 << 32) - 2
_TIME_RANGE_NS = (-(1 << 31) * 10**9, (1 << 34) * 10**9)
_RESERVED_PART = 20
_CHECK_EVERY_BYTES = 64 << 20
_CHECK_EVERY_ENTRIES = 4096
# What the kernel says when the archive, not the disk, is to blame.
_ARCHIVES_FAULT = {
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.EEXIST,
    errno.EINVAL,
    errno.EMLINK,
    errno.E2BIG,
    errno.ERANGE,
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one layer may take, so that a small upload cannot fill the disk.

    largest_ratio (unpacked to packed) counts only beyond ratio_from_bytes: small layers of zeros
    are harmless. The reserve is what stays free on the file system, for its other users; on a small
    one a twentieth of it.
    """

    largest_layer_bytes: int = 256 << 30
    most_entries: int = 10_000_000
    largest_ratio: int = 250
    ratio_from_bytes: int = 4 << 30
    free_reserve_bytes: int = 256 << 20
    free_reserve_inodes: int = 10_000


def unpack(source: Readable, directory: int, limits: Limits | None = None) -> int:
    """Extract a plain tar stream below a directory descriptor, and read the source to its end.

    Returns the bytes of regular files and symbolic links, as Docker counts them. Raises
    InvalidParameter for an archive that is damaged or malicious, OSError for the disk's failures
    (ENOSPC also when a reserve is reached).
    """
    stream = TarStream(source)
    extractor = _Extractor(stream, directory, limits or Limits())
    try:
        for entry in read_entries(stream):
            extractor.extract(entry)
        extractor.set_times()
    finally:
        extractor.forget_folders()
    stream.drain()
    return extractor.file_bytes


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and how place() puts an archive that is no layer.

    path is a directory inside the root; owner, when given, replaces those in the archive;
    with keep_kinds a directory is never replaced by something else, nor something else by one.
    """

    path: bytes
    owner: tuple[int, int] | None = None
    keep_kinds: bool = False


def place(source: Readable, root: int, placement: Placement) -> None:
    """Extract a plain tar stream into a directory of a root; names, also of whiteouts, are just names.

    Nothing outside root is touched; the directory itself keeps its owner and mode.
    Raises InvalidParameter, OSError as unpack().
    """
    stream = TarStream(source)
    limits = Limits(free_reserve_bytes=0, free_reserve_inodes=0)
    extractor = _Extractor(stream, root, limits, placement)
    try:
        for entry in read_entries(stream):
            extractor.extract(entry)
        extractor.set_times()
    finally:
        extractor.forget_folders()
    stream.drain()


def clean_path(name: bytes) -> bytes:
    """A member's path relative to the root, without ".", ".." and doubled slashes; empty for the root."""
    if b"\0" in name:
        raise InvalidParameter(f"the name {name!r} contains a NUL byte")
    return posixpath.normpath(b"/" + name).lstrip(b"/")


def is_whiteout(status: os.stat_result) -> bool:
    """Whether overlayfs takes this file as "deleted below"."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


class _Extractor:
    def __init__(
        self, stream: TarStream, directory: int, limits: Limits, placement: Placement | None = None
    ) -> None:
        self._stream = stream
        self._placement = placement
        self._root = directory
        self._limits = limits
        self._folders: OrderedDict[bytes, int] = OrderedDict()
        self._times: dict[bytes, int] = {}
        self._entries = 0
        self._unchecked_bytes = 1 + _CHECK_EVERY_BYTES
        self.file_bytes = 0

    def extract(self, entry: Entry) -> None:
        """Extract one member."""
        self._count(entry)
        path = clean_path(entry.name)
        if self._placement is not None:
            if not path:
                return
            path = self._placed(entry, path, self._placement)
        parent_path, name = posixpath.split(path)
        try:
            if name.startswith(WHITEOUT) and self._placement is None:
                self._whiteout(parent_path, name)
            elif not path:
                self._root_folder(entry)
            else:
                self._create(entry, path, parent_path, name)
        except OSError as error:
            if error.errno in _ARCHIVES_FAULT:
                raise InvalidParameter(
                    f"cannot extract {os.fsdecode(entry.name)!r} of the layer: {error.strerror}"
                ) from error
            raise

    def _placed(self, entry: Entry, path: bytes, placement: Placement) -> bytes:
        """An entry's path below the place; the entry is changed to fit there."""
        if placement.owner is not None:
            entry.uid, entry.gid = placement.owner
        place = clean_path(placement.path)
        if entry.type == HARD_LINK:
            entry.link_name = posixpath.join(place, clean_path(entry.link_name))
        return posixpath.join(place, path)

    def set_times(self) -> None:
        """Set the directories' times, when nothing is created in them any more."""
        for path, mtime_ns in self._times.items():
            parent_path, name = posixpath.split(path)
            with suppress(FileNotFoundError, NotADirectoryError):
                if path:
                    _set_time(name, mtime_ns, self._folder(parent_path))
                else:
                    os.utime(self._root, ns=(mtime_ns, mtime_ns))

    def forget_folders(self) -> None:
        """Close the cached descriptors: they are no longer needed, or no longer what their path means."""
        while self._folders:
            os.close(self._folders.popitem()[1])

    def _count(self, entry: Entry) -> None:
        limits = self._limits
        self._entries += 1
        self._unchecked_bytes += entry.stored
        if self._entries > limits.most_entries:
            raise InvalidParameter(f"the layer has more than {limits.most_entries} entries")
        self.file_bytes += entry.size + len(entry.link_name) * (entry.type == SYMBOLIC_LINK)
        if self.file_bytes > limits.largest_layer_bytes:
            raise InvalidParameter(f"the layer is larger than the {limits.largest_layer_bytes} bytes allowed")
        if self._unchecked_bytes > _CHECK_EVERY_BYTES or self._entries % _CHECK_EVERY_ENTRIES == 0:
            self._unchecked_bytes = 0
            self._check_disk(entry.stored)

    def _check_disk(self, more_bytes: int) -> None:
        disk = os.fstatvfs(self._root)
        limits = self._limits
        reserve_bytes = min(limits.free_reserve_bytes, disk.f_blocks * disk.f_frsize // _RESERVED_PART)
        reserve_inodes = min(limits.free_reserve_inodes, disk.f_files // _RESERVED_PART)
        full = disk.f_bavail * disk.f_frsize < reserve_bytes + more_bytes
        # a file system without a fixed number of inodes (btrfs) reports none at all
        if full or (disk.f_files and disk.f_favail < reserve_inodes):
            raise OSError(errno.ENOSPC, "not enough free space to unpack the layer")

    # Folders

    def _folder(self, path: bytes) -> int:
        """A descriptor of a directory, made with its parents where missing."""
        if path in self._folders:
            self._folders.move_to_end(path)
            return self._folders[path]
        try:
            folder = self._open(path)
        except (FileNotFoundError, NotADirectoryError):  # the latter perhaps a whiteout
            self._make_folders(path)
            folder = self._open(path)
        self._folders[path] = folder
        if len(self._folders) > _CACHED_FOLDERS:
            os.close(self._folders.popitem(last=False)[1])
        return folder

    def _open(self, path: bytes) -> int:
        flags = os.O_PATH | os.O_DIRECTORY
        while True:
            try:
                return openat2(
                    self._root, path or b".", flags, resolve=RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
                )
            except BlockingIOError:  # EAGAIN: somebody renamed something while ".." of a link was walked
                continue

    def _make_folders(self, path: bytes, links: int = 0) -> None:
        """mkdir -p inside the root; a dangling link on the way gets its target made."""
        done = b""
        for name in path.split(b"/"):
            parent = self._open(done)
            done = posixpath.join(done, name)
            try:
                os.mkdir(name, 0o755, dir_fd=parent)
            except FileExistsError:
                old = os.lstat(name, dir_fd=parent)
                if is_whiteout(old):
                    self._replace_whiteout(parent, name)
                elif stat.S_ISLNK(old.st_mode):
                    self._make_link_target(done, os.readlink(name, dir_fd=parent), links)
            finally:
                os.close(parent)

    def _make_link_target(self, link: bytes, target: bytes, links: int) -> None:
        if links >= _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        try:
            os.close(self._open(link))
        except FileNotFoundError:
            made = clean_path(posixpath.join(b"/", posixpath.dirname(link), target))
            self._make_folders(made, links + 1)

    def _replace_whiteout(self, parent: int, name: bytes) -> None:
        """What was deleted below comes back as a new directory: it shows nothing from below."""
        os.unlink(name, dir_fd=parent)
        os.mkdir(name, 0o755, dir_fd=parent)
        os.setxattr(_path_of(parent, name), OPAQUE_ATTRIBUTE, b"y", follow_symlinks=False)

    # Whiteouts

    def _whiteout(self, parent_path: bytes, name: bytes) -> None:
        parent = self._folder(parent_path)
        if name == OPAQUE:
            os.setxattr(f"/proc/self/fd/{parent}", OPAQUE_ATTRIBUTE, b"y")
            return
        if name.startswith(WHITEOUT_META):
            return  # bookkeeping of aufs, no part of the content
        hidden = name.removeprefix(WHITEOUT)
        if hidden in {b"", b".", b".."}:
            raise InvalidParameter(f"the layer's whiteout {os.fsdecode(name)!r} names nothing")
        try:
            os.mknod(hidden, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
        except FileExistsError:
            # Deleted below and present in this layer: what this layer says about it stays.
            if stat.S_ISDIR(os.lstat(hidden, dir_fd=parent).st_mode):
                os.setxattr(_path_of(parent, hidden), OPAQUE_ATTRIBUTE, b"y", follow_symlinks=False)

    # Entries

    def _root_folder(self, entry: Entry) -> None:
        if not entry.is_directory:
            raise InvalidParameter("the layer's root is not a directory")
        os.chown(self._root, *_owner(entry))
        os.chmod(self._root, entry.mode)
        self._set_attributes(f"/proc/self/fd/{self._root}", entry)
        self._times[b""] = _time(entry)

    def _create(self, entry: Entry, path: bytes, parent_path: bytes, name: bytes) -> None:
        creator = _CREATORS.get(entry.type)
        if creator is None:
            raise InvalidParameter(
                f"cannot extract {os.fsdecode(entry.name)!r} of the layer: unknown type {entry.type!r}"
            )
        try:
            creator(self, entry, self._folder(parent_path), name)
        except FileExistsError:
            if self._clear(self._folder(parent_path), name, entry):
                creator(self, entry, self._folder(parent_path), name)
        if entry.is_directory:
            self._times[path] = _time(entry)

    def _clear(self, parent: int, name: bytes, entry: Entry) -> bool:
        """Make room for an entry whose name is taken; false if it is there already."""
        old = os.lstat(name, dir_fd=parent)
        if entry.type == HARD_LINK and self._is_target(entry, old):
            return False
        if self._placement is not None and self._placement.keep_kinds:
            self._check_kind(stat.S_ISDIR(old.st_mode), name, entry)
        if is_whiteout(old) and entry.is_directory:
            self._replace_whiteout(parent, name)
        elif stat.S_ISDIR(old.st_mode):
            shutil.rmtree(os.fsdecode(name), dir_fd=parent)
        else:
            os.unlink(name, dir_fd=parent)
        self.forget_folders()
        return True

    def _check_kind(self, was_directory: bool, name: bytes, entry: Entry) -> None:
        if was_directory != entry.is_directory:
            old, new = ("directory", "non-directory") if was_directory else ("non-directory", "directory")
            raise InvalidParameter(
                f'cannot overwrite {old} "{os.fsdecode(name)}" with {new} "{os.fsdecode(name)}"'
            )

    def _is_target(self, entry: Entry, old: os.stat_result) -> bool:
        directory, name = posixpath.split(clean_path(entry.link_name))
        target = os.lstat(name, dir_fd=self._folder(directory))
        return (target.st_dev, target.st_ino) == (old.st_dev, old.st_ino)

    def _create_folder(self, entry: Entry, parent: int, name: bytes) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
                raise
        os.chown(name, *_owner(entry), dir_fd=parent, follow_symlinks=False)
        os.chmod(name, entry.mode, dir_fd=parent)
        self._set_attributes(_path_of(parent, name), entry)

    def _create_file(self, entry: Entry, parent: int, name: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            if entry.sparse is None:
                self._copy(entry.stored, file)
            else:
                for offset, size in entry.sparse:
                    os.lseek(file, offset, os.SEEK_SET)
                    self._copy(size, file)
                os.ftruncate(file, entry.size)
            os.fchown(file, *_owner(entry))
            os.fchmod(file, entry.mode)
            if entry.xattrs:
                self._set_attributes(f"/proc/self/fd/{file}", entry)
            time_ns = _time(entry)
            os.utime(file, ns=(time_ns, time_ns))
        finally:
            os.close(file)

    def _copy(self, size: int, file: int) -> None:
        while size:
            piece = self._stream.next(size)
            if not piece:
                raise InvalidParameter("the tar archive ends in the middle of a file")
            size -= len(piece)
            while piece:
                piece = piece[os.write(file, piece) :]

    def _create_link(self, entry: Entry, parent: int, name: bytes) -> None:
        directory, target = posixpath.split(clean_path(entry.link_name))
        if not target:
            raise InvalidParameter(f"{os.fsdecode(entry.name)!r} of the layer is a hard link to the root")
        source = self._open(directory)
        try:
            os.link(target, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        except PermissionError as error:
            raise InvalidParameter(
                f"{os.fsdecode(entry.name)!r} of the layer is a hard link to what cannot have one"
            ) from error
        finally:
            os.close(source)

    def _create_symbolic_link(self, entry: Entry, parent: int, name: bytes) -> None:
        if b"\0" in entry.link_name:
            raise InvalidParameter(f"the link {os.fsdecode(entry.name)!r} contains a NUL byte")
        os.symlink(entry.link_name, name, dir_fd=parent)
        self._finish_special(entry, parent, name)

    def _create_node(self, entry: Entry, parent: int, name: bytes) -> None:
        if not (0 <= entry.major < 1 << 12 and 0 <= entry.minor < 1 << 20):
            raise InvalidParameter(
                f"{os.fsdecode(entry.name)!r} of the layer has an impossible device number"
            )
        kind = {CHARACTER: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK, FIFO: stat.S_IFIFO}[entry.type]
        os.mknod(name, kind | 0o600, os.makedev(entry.major, entry.minor), dir_fd=parent)
        self._finish_special(entry, parent, name)
        os.chmod(name, entry.mode, dir_fd=parent)

    def _finish_special(self, entry: Entry, parent: int, name: bytes) -> None:
        os.chown(name, *_owner(entry), dir_fd=parent, follow_symlinks=False)
        self._set_attributes(_path_of(parent, name), entry)
        _set_time(name, _time(entry), parent)

    def _set_attributes(self, path: str | bytes, entry: Entry) -> None:
        """Extended attributes; those that mean something to overlayfs itself are dropped.

        path is bytes for _path_of() an entry, str for a descriptor's own magic link.
        """
        for name, value in entry.xattrs.items():
            if name.startswith(OVERLAY_ATTRIBUTES):
                continue
            try:
                os.setxattr(path, name, value, follow_symlinks=isinstance(path, str))
            except OSError as error:
                # the file system has none of this kind, or (user.*) not on links and devices
                unsupported = error.errno == errno.ENOTSUP
                if not unsupported and not (error.errno == errno.EPERM and name.startswith(b"user.")):
                    raise


_CREATORS: dict[bytes, Callable[[_Extractor, Entry, int, bytes], None]] = {
    DIRECTORY: _Extractor._create_folder,
    REGULAR: _Extractor._create_file,
    HARD_LINK: _Extractor._create_link,
    SYMBOLIC_LINK: _Extractor._create_symbolic_link,
    CHARACTER: _Extractor._create_node,
    BLOCK_DEVICE: _Extractor._create_node,
    FIFO: _Extractor._create_node,
}


def _path_of(parent: int, name: bytes) -> bytes:
    """A path to an entry of a directory descriptor, for calls that take no descriptor (lsetxattr)."""
    return b"/proc/self/fd/%d/%s" % (parent, name)


def _owner(entry: Entry) -> tuple[int, int]:
    if not (0 <= entry.uid <= _LARGEST_ID and 0 <= entry.gid <= _LARGEST_ID):
        raise InvalidParameter(f"{os.fsdecode(entry.name)!r} of the layer has an impossible owner")
    return entry.uid, entry.gid


def _time(entry: Entry) -> int:
    earliest, latest = _TIME_RANGE_NS
    return min(max(entry.mtime_ns, earliest), latest)


def _set_time(name: bytes, time_ns: int, parent: int) -> None:
    os.utime(name, ns=(time_ns, time_ns), dir_fd=parent, follow_symlinks=False)
