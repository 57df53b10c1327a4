"""Write directories as tar streams: for export, for copies out of containers, and for layers.

Names are bytes, entries are sorted, times are whole seconds: the same tree gives the same bytes.
Headers are ustar, with a PAX header before those that do not fit (long names, large numbers,
extended attributes). See POSIX pax(1) and the OCI image specification, layer.md.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Collection

from seom.storage.tar_headers import (
    BLOCK,
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    HARD_LINK,
    REGULAR,
    SYMBOLIC_LINK,
)
from seom.storage.unpack import OPAQUE, OPAQUE_ATTRIBUTE, WHITEOUT, is_whiteout

Write = Callable[[bytes], object]

_CHUNK_BYTES = 1 << 20
_END = bytes(2 * BLOCK)
_LARGEST_ID = 0o7777777
_LARGEST_SIZE = 0o77777777777
_TYPES = {
    stat.S_IFREG: REGULAR,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMBOLIC_LINK,
    stat.S_IFCHR: CHARACTER,
    stat.S_IFBLK: BLOCK_DEVICE,
    stat.S_IFIFO: FIFO,
}
_KEPT_ATTRIBUTES = ("security.capability", "user.")


class TarWriter:
    """A tar stream in the making; write gets its pieces. With overlay, whiteouts become those of layers."""

    def __init__(self, write: Write, overlay: bool = False, skip: Collection[bytes] = ()) -> None:
        """skip names paths, as in the archive, that are left out with everything below them."""
        self._write = write
        self._overlay = overlay
        self._skip = skip
        self._linked: dict[tuple[int, int], bytes] = {}
        self.file_bytes = 0
        """Of the regular files and symbolic links so far, as Docker counts the size of a layer."""

    def add(self, parent: int, name: bytes, archive_name: bytes) -> None:
        """Add the entry name of a directory descriptor, with everything below it, as archive_name.

        What vanishes meanwhile and sockets are left out. Raises OSError.
        """
        if archive_name in self._skip:
            return
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        if self._overlay and is_whiteout(status):
            directory, slash, hidden = archive_name.rpartition(b"/")
            self._empty(directory + slash + WHITEOUT + hidden, status)
        elif stat.S_ISDIR(status.st_mode):
            self._add_directory(parent, name, archive_name, status)
        elif stat.S_ISREG(status.st_mode):
            self._add_file(parent, name, archive_name, status)
        elif stat.S_IFMT(status.st_mode) in _TYPES:
            self._add_special(parent, name, archive_name, status)

    def add_content(self, directory: int, archive_name: bytes = b"") -> None:
        """Add what is in a directory, below archive_name (empty, or ending in a slash)."""
        # An explicit stack: the depth of the tree is not ours to choose.
        levels = [(directory, archive_name, iter(sorted(map(os.fsencode, os.listdir(directory)))))]
        try:
            while levels:
                parent, prefix, names = levels[-1]
                name = next(names, None)
                if name is None:
                    levels.pop()
                    if parent != directory:
                        os.close(parent)
                    continue
                inner = self._add_shallow(parent, name, prefix + name)
                if inner is not None:
                    children = iter(sorted(map(os.fsencode, os.listdir(inner))))
                    levels.append((inner, prefix + name + b"/", children))
        finally:
            for descriptor, _, _ in levels[1:]:
                os.close(descriptor)

    def add_directory_itself(self, directory: int, archive_name: bytes) -> None:
        """Add the entry of a directory without its content."""
        status = os.fstat(directory)
        self._header(archive_name, status, DIRECTORY, attributes=_attributes(directory))

    def finish(self) -> None:
        """Write the end of the archive."""
        self._write(_END)

    def _add_shallow(self, parent: int, name: bytes, archive_name: bytes) -> int | None:
        """Add an entry; of a directory only itself, and return its descriptor."""
        if archive_name in self._skip:
            return None
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                self.add(parent, name, archive_name)
                return None
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            inner = os.open(name, flags, dir_fd=parent)
        except FileNotFoundError:
            return None
        self._header(archive_name + b"/", status, DIRECTORY, attributes=_attributes(inner))
        if self._overlay and _is_opaque(inner):
            self._empty(archive_name + b"/" + OPAQUE, status)
        return inner

    def _add_directory(self, parent: int, name: bytes, archive_name: bytes, status: os.stat_result) -> None:
        inner = self._add_shallow(parent, name, archive_name)
        if inner is not None:
            try:
                self.add_content(inner, archive_name + b"/")
            finally:
                os.close(inner)

    def _add_file(self, parent: int, name: bytes, archive_name: bytes, status: os.stat_result) -> None:
        if self._add_link(archive_name, status):
            return
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            file = os.open(name, flags, dir_fd=parent)
        except FileNotFoundError:
            return
        try:
            status = os.fstat(file)
            self._header(archive_name, status, REGULAR, size=status.st_size, attributes=_attributes(file))
            self._copy(file, status.st_size)
        finally:
            os.close(file)

    def _add_link(self, archive_name: bytes, status: os.stat_result) -> bool:
        """Add a second name of a file as a hard link; the first one is remembered."""
        if status.st_nlink < 2:
            return False
        first = self._linked.setdefault((status.st_dev, status.st_ino), archive_name)
        if first == archive_name:
            return False
        self._header(archive_name, status, HARD_LINK, link=first)
        return True

    def _add_special(self, parent: int, name: bytes, archive_name: bytes, status: os.stat_result) -> None:
        if self._add_link(archive_name, status):
            return
        kind = _TYPES[stat.S_IFMT(status.st_mode)]
        link = os.readlink(name, dir_fd=parent) if kind == SYMBOLIC_LINK else b""
        self._header(archive_name, status, kind, link=link)

    def _empty(self, archive_name: bytes, status: os.stat_result) -> None:
        self._header(archive_name, status, REGULAR)

    def _header(
        self,
        name: bytes,
        status: os.stat_result,
        kind: bytes,
        size: int = 0,
        link: bytes = b"",
        attributes: dict[str, bytes] | None = None,
    ) -> None:
        self.file_bytes += size + len(link) * (kind == SYMBOLIC_LINK)
        device = (os.major(status.st_rdev), os.minor(status.st_rdev)) if kind in b"34" else (0, 0)
        self._write(encode_header(name, status, kind, size, link, device, attributes or {}))

    def _copy(self, file: int, size: int) -> None:
        """Exactly size bytes, whatever happens to the file meanwhile, and the padding."""
        missing = size
        while missing and (chunk := os.read(file, min(missing, _CHUNK_BYTES))):
            self._write(chunk)
            missing -= len(chunk)
        missing += -size % BLOCK
        while missing:
            self._write(bytes(min(missing, _CHUNK_BYTES)))
            missing -= min(missing, _CHUNK_BYTES)


def encode_header(
    name: bytes,
    status: os.stat_result,
    kind: bytes,
    size: int,
    link: bytes,
    device: tuple[int, int],
    attributes: dict[str, bytes],
) -> bytes:
    """The header blocks of one member."""
    mtime = max(int(status.st_mtime), 0)
    records = [(f"SCHILY.xattr.{key}".encode(), value) for key, value in sorted(attributes.items())]
    prefix, base = _split_name(name)
    if base is None:
        records.append((b"path", name))
        prefix, base = b"", name[:100]
    if len(link) > 100:
        records.append((b"linkpath", link))
    for key, value, largest in (
        (b"uid", status.st_uid, _LARGEST_ID),
        (b"gid", status.st_gid, _LARGEST_ID),
        (b"size", size, _LARGEST_SIZE),
    ):
        if value > largest:
            records.append((key, b"%d" % value))
    block = _block(
        base,
        stat.S_IMODE(status.st_mode),
        min(status.st_uid, _LARGEST_ID),
        min(status.st_gid, _LARGEST_ID),
        min(size, _LARGEST_SIZE),
        min(mtime, _LARGEST_SIZE),
        kind,
        link[:100],
        device,
        prefix,
    )
    return _pax_header(records) + block if records else block


def _split_name(name: bytes) -> tuple[bytes, bytes | None]:
    """ustar's prefix and name, or (empty, None) when the name does not fit."""
    if len(name) <= 100:
        return b"", name
    cut = name.rfind(b"/", 0, min(156, len(name) - 1))
    if cut <= 0 or len(name) - cut - 1 > 100:
        return b"", None
    return name[:cut], name[cut + 1 :]


def _pax_header(records: list[tuple[bytes, bytes]]) -> bytes:
    body = b"".join(_pax_record(key, value) for key, value in records)
    block = _block(b"PaxHeaders/x", 0o644, 0, 0, len(body), 0, b"x", b"", (0, 0), b"")
    return block + body + bytes(-len(body) % BLOCK)


def _pax_record(key: bytes, value: bytes) -> bytes:
    """ "LENGTH KEY=VALUE\\n", where the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _block(
    name: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    kind: bytes,
    link: bytes,
    device: tuple[int, int],
    prefix: bytes,
) -> bytes:
    head = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(100, b"\0"), mode, uid, gid, size, mtime)
    tail = b"%s%s%s%s%07o\0%07o\0%s" % (
        kind,
        link.ljust(100, b"\0"),
        b"ustar\x0000",
        bytes(64),
        *device,
        prefix.ljust(155, b"\0"),
    )
    checksum = sum(head) + sum(tail) + 8 * 0x20
    return (head + b"%06o\0 " % checksum + tail).ljust(BLOCK, b"\0")


def _attributes(descriptor: int) -> dict[str, bytes]:
    """The extended attributes that belong to the content."""
    try:
        return {
            name: os.getxattr(descriptor, name)
            for name in os.listxattr(descriptor)
            if name.startswith(_KEPT_ATTRIBUTES)
        }
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENODATA, errno.EPERM):
            return {}
        raise


def _is_opaque(directory: int) -> bool:
    try:
        return os.getxattr(directory, OPAQUE_ATTRIBUTE) == b"y"
    except OSError:
        return False
