"""Read the headers of a tar stream: ustar, GNU (long names, sparse files) and PAX.

Our own parser because the archives are hostile: headers are bounded in size, nothing scans them
more than once, and a damaged header is an error instead of the end. Names stay bytes.
See POSIX pax(1), "ustar Interchange Format" and "pax Interchange Format", and GNU tar's manual,
"Basic Tar Format" and "Storing Sparse Files".
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from seom.errors import InvalidParameter
from seom.storage.blobs import Readable

BLOCK = 512
REGULAR, HARD_LINK, SYMBOLIC_LINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = (
    b"0",
    b"1",
    b"2",
    b"3",
    b"4",
    b"5",
    b"6",
)
_REGULAR_TYPES = {b"0", b"\0", b"7", b"S"}
_WITHOUT_CONTENT = {HARD_LINK, SYMBOLIC_LINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO}
_LARGEST_EXTENSION_BYTES = 1 << 20
_MOST_SPARSE_PARTS = 1 << 20
_XATTR = b"SCHILY.xattr."
_TIME = re.compile(rb"(-?)([0-9]{1,18})(?:\.([0-9]{0,32}))?")
_FIELDS = struct.Struct("100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12s")


@dataclass(slots=True)
class Entry:
    """One member. size is the file's, stored what the archive holds of it, both in bytes."""

    name: bytes
    type: bytes
    mode: int
    uid: int
    gid: int
    size: int
    stored: int
    mtime_ns: int
    link_name: bytes
    major: int
    minor: int
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    sparse: list[tuple[int, int]] | None = None  # (offset, size) of each stored part

    @property
    def is_directory(self) -> bool:
        return self.type == DIRECTORY


class TarStream:
    """A stream that only goes forward, read in exact amounts."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._chunk = memoryview(b"")
        self.position = 0

    def read(self, size: int) -> bytes:
        """Exactly size bytes; fewer only at the end."""
        piece = self.next(size)
        if len(piece) == size:
            return bytes(piece)
        parts = [bytes(piece)]
        missing = size - len(piece)
        while missing and (piece := self.next(missing)):
            parts.append(bytes(piece))
            missing -= len(piece)
        return b"".join(parts)

    def next(self, limit: int) -> memoryview:
        """Some bytes, at most limit, without copying; none at the end."""
        if not self._chunk:
            self._chunk = memoryview(self._source.read(1 << 20))
        piece, self._chunk = self._chunk[:limit], self._chunk[limit:]
        self.position += len(piece)
        return piece

    def skip(self, size: int) -> None:
        """Pass over bytes; raises InvalidParameter at the end."""
        while size:
            piece = self.next(size)
            if not piece:
                raise InvalidParameter("the tar archive ends in the middle of a file")
            size -= len(piece)

    def drain(self) -> None:
        """Read to the end."""
        while self.next(1 << 30):
            pass


def read_entries(stream: TarStream) -> Iterator[Entry]:
    """Every member in turn, with the stream at its content.

    The consumer may read any part of the content, at most entry.stored bytes.
    Raises InvalidParameter for a damaged or truncated archive.
    """
    extensions = _Extensions()
    while (header := stream.read(BLOCK)) and header.count(0) != BLOCK:
        if len(header) < BLOCK:
            raise InvalidParameter("the tar archive ends in the middle of a header")
        entry = _parse_header(header)
        if entry.type in b"xgLK":
            extensions.add(entry, _extension(stream, entry.stored))
            continue
        if entry.type == b"S":
            entry.sparse = _old_sparse(stream, header)
            entry.size = _number(header[483:495])
        before = stream.position
        extensions.apply(entry, stream)
        if entry.type in _REGULAR_TYPES:
            is_directory = entry.type == b"\0" and entry.name.endswith(b"/")
            entry.type = DIRECTORY if is_directory else REGULAR
        _check(entry)
        end = before + entry.stored
        entry.stored -= stream.position - before
        yield entry
        if stream.position > end:
            raise InvalidParameter("the tar archive's sparse file is inconsistent")
        stream.skip(end - stream.position + -(end - before) % BLOCK)
        extensions = _Extensions()


def looks_like_tar(head: bytes) -> bool:
    """Whether a stream begins like a tar: a header with a right checksum, or the end mark of an empty one."""
    if len(head) < BLOCK:
        return False
    header = head[:BLOCK]
    if header.count(0) == BLOCK:
        return True
    try:
        _parse_header(header)
    except InvalidParameter:
        return False
    return True


def _parse_header(header: bytes) -> Entry:
    (
        name,
        mode,
        uid,
        gid,
        size,
        mtime,
        checksum,
        kind,
        link_name,
        magic,
        _,
        _,
        _,
        major,
        minor,
        prefix,
        _,
    ) = _FIELDS.unpack(header)
    if _number(checksum) != sum(header) - sum(checksum) + 8 * 0x20:
        raise InvalidParameter("the tar archive is damaged: a header has a wrong checksum")
    name = name.split(b"\0", 1)[0]
    if magic == b"ustar\0" and prefix[0]:
        prefix = prefix[:131] if header[508:] == b"tar\0" else prefix
        name = prefix.split(b"\0", 1)[0] + b"/" + name
    content = 0 if kind in _WITHOUT_CONTENT else _number(size)
    return Entry(
        name=name,
        type=kind,
        mode=_number(mode) & 0o7777,
        uid=_number(uid),
        gid=_number(gid),
        size=content,
        stored=content,
        mtime_ns=_number(mtime) * 1_000_000_000,
        link_name=link_name.split(b"\0", 1)[0],
        major=_number(major) if kind in b"34" else 0,
        minor=_number(minor) if kind in b"34" else 0,
    )


def _number(text: bytes) -> int:
    """A numeric field: octal digits, or binary when the first bit is set."""
    if text[0] in (0x80, 0xFF):
        value = int.from_bytes(text[1:], "big")
        return value if text[0] == 0x80 else value - (1 << 8 * (len(text) - 1))
    digits = text.split(b"\0", 1)[0].strip()
    try:
        return int(digits or b"0", 8)
    except ValueError as error:
        raise InvalidParameter("the tar archive is damaged: a header has a malformed number") from error


def _extension(stream: TarStream, size: int) -> bytes:
    if not 0 <= size <= _LARGEST_EXTENSION_BYTES:
        raise InvalidParameter(f"the tar archive has an extended header of {size} bytes")
    content = stream.read(size)
    if len(content) < size:
        raise InvalidParameter("the tar archive ends in the middle of a header")
    stream.skip(-size % BLOCK)
    return content


class _Extensions:
    """What the headers before an entry say about it."""

    def __init__(self) -> None:
        self._name: bytes | None = None
        self._link_name: bytes | None = None
        self._records: list[tuple[bytes, bytes]] = []
        self._bytes = 0

    def add(self, header: Entry, content: bytes) -> None:
        """Take one extension; global ones ("g") are passed over, as Go's reader does."""
        self._bytes += len(content)
        if self._bytes > _LARGEST_EXTENSION_BYTES:
            raise InvalidParameter("the tar archive has too many extended headers for one entry")
        if header.type == b"L":
            self._name = content.split(b"\0", 1)[0]
        elif header.type == b"K":
            self._link_name = content.split(b"\0", 1)[0]
        elif header.type == b"x":
            self._records += _pax_records(content)

    def apply(self, entry: Entry, stream: TarStream) -> None:
        """Change the entry; a sparse map at the start of the content is read from the stream."""
        if self._name is not None:
            entry.name = self._name
        if self._link_name is not None:
            entry.link_name = self._link_name
        if not self._records:
            return
        values = dict(self._records)
        entry.name = values.get(b"path", entry.name)
        entry.link_name = values.get(b"linkpath", entry.link_name)
        entry.uid = _decimal(values.get(b"uid"), entry.uid)
        entry.gid = _decimal(values.get(b"gid"), entry.gid)
        if entry.type not in _WITHOUT_CONTENT:
            entry.stored = _decimal(values.get(b"size"), entry.stored)
            entry.size = entry.stored if entry.sparse is None else entry.size
        if mtime := values.get(b"mtime"):
            entry.mtime_ns = _nanoseconds(mtime)
        entry.xattrs = {
            key.removeprefix(_XATTR): value for key, value in self._records if key.startswith(_XATTR)
        }
        self._apply_sparse(entry, values, stream)

    def _apply_sparse(self, entry: Entry, values: dict[bytes, bytes], stream: TarStream) -> None:
        size = values.get(b"GNU.sparse.realsize", values.get(b"GNU.sparse.size"))
        if size is None or entry.type in _WITHOUT_CONTENT:
            return
        entry.name = values.get(b"GNU.sparse.name", entry.name)
        entry.size = _decimal(size, 0)
        if values.get(b"GNU.sparse.major") == b"1":
            numbers = _sparse_map_in_content(stream, entry.stored)
        elif b"GNU.sparse.map" in values:
            numbers = [_decimal(number, 0) for number in values[b"GNU.sparse.map"].split(b",") if number]
        else:
            parts = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
            numbers = [_decimal(value, 0) for key, value in self._records if key in parts]
        entry.sparse = list(zip(numbers[::2], numbers[1::2], strict=False))


def _pax_records(content: bytes) -> list[tuple[bytes, bytes]]:
    """The "LENGTH KEY=VALUE\\n" records of an extended header."""
    records = []
    position = 0
    while position < len(content) and content[position]:
        space = content.find(b" ", position, position + 20)
        end = position + _decimal(content[position:space], 0) if space > 0 else 0
        key, equals, value = content[space + 1 : end].partition(b"=")
        if not position < space < end <= len(content) or not equals or not value.endswith(b"\n"):
            raise InvalidParameter("the tar archive is damaged: an extended header is malformed")
        records.append((key, value[:-1]))
        position = end
    return records


def _sparse_map_in_content(stream: TarStream, stored: int) -> list[int]:
    """The map of format 1.0: decimal lines in whole blocks before the data."""
    wanted = -1
    numbers: list[int] = []
    rest = b""
    while wanted < 0 or len(numbers) < wanted:
        block = stream.read(BLOCK)
        stored -= len(block)
        if len(block) < BLOCK or stored < 0 or len(numbers) > 2 * _MOST_SPARSE_PARTS:
            raise InvalidParameter("the tar archive has a malformed sparse map")
        *lines, rest = (rest + block).split(b"\n")
        numbers += [_decimal(line, 0) for line in lines]
        if wanted < 0 and numbers:
            wanted = 2 * numbers.pop(0)
    return numbers[:wanted]


def _old_sparse(stream: TarStream, header: bytes) -> list[tuple[int, int]]:
    """The map of GNU's old format: four parts in the header, more in further blocks."""
    parts = _sparse_parts(header[386:482])
    more = header[482]
    while more:
        block = stream.read(BLOCK)
        if len(block) < BLOCK or len(parts) > _MOST_SPARSE_PARTS:
            raise InvalidParameter("the tar archive has a malformed sparse map")
        parts += _sparse_parts(block[:504])
        more = block[504]
    return parts


def _sparse_parts(table: bytes) -> list[tuple[int, int]]:
    rows = (table[start : start + 24] for start in range(0, len(table), 24))
    return [(_number(row[:12]), _number(row[12:])) for row in rows if row[0]]


def _check(entry: Entry) -> None:
    if entry.size < 0 or entry.stored < 0:
        raise InvalidParameter(f"the tar archive is damaged: {entry.name!r} has a negative size")
    position = 0
    for offset, size in entry.sparse or ():
        if offset < position or size < 0 or offset + size > entry.size:
            raise InvalidParameter(
                f"the tar archive is damaged: the sparse file {entry.name!r} is inconsistent"
            )
        position = offset + size


def _decimal(text: bytes | None, default: int) -> int:
    if not text:
        return default
    if not text.isdigit() or len(text) > 19:
        raise InvalidParameter("the tar archive is damaged: an extended header has a malformed number")
    return int(text)


def _nanoseconds(text: bytes) -> int:
    match = _TIME.fullmatch(text)
    if match is None:
        raise InvalidParameter("the tar archive is damaged: an extended header has a malformed time")
    nanoseconds = int(match[2]) * 1_000_000_000 + int((match[3] or b"").ljust(9, b"0")[:9])
    return -nanoseconds if match[1] else nanoseconds
