"""Reading json-file logs: since, until, tail and follow, across rotated files.

    ID-json.log        the current file
    ID-json.log.1      the one before it, and so on

Every line is a JSON object with log, stream, time and, when asked for, attrs. Whole blocks are
decoded and encoded at once; all methods block and are called from a worker thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

BLOCK_BYTES = 1 << 20
_STREAM_TYPE = {"stdin": 0, "stdout": 1, "stderr": 2}


class Entry(msgspec.Struct):
    """One logged line (or a part of a long one, without a newline)."""

    log: str
    stream: str
    time: str
    attrs: dict[str, str] | None = None


@dataclass(frozen=True)
class LogQuery:
    """What of a log to send, and how."""

    stdout: bool = True
    stderr: bool = True
    since_ns: int = 0
    until_ns: int = 0
    tail: int = -1
    timestamps: bool = False
    details: bool = False
    framed: bool = True


class LogReader:
    """Reads one container's log from the oldest kept line towards the end."""

    def __init__(self, path: Path, query: LogQuery) -> None:
        self._path = path
        self._query = query
        self._decoder = msgspec.json.Decoder(Entry)
        self._current: int | None = None
        self._rest = b""
        self.finished = False

    def close(self) -> None:
        """Close the current file."""
        if self._current is not None:
            os.close(self._current)
            self._current = None

    def history(self) -> Iterator[bytes]:
        """Blocks of encoded output for everything written so far; the current file stays open."""
        files = self._files_oldest_first()
        if self._query.tail >= 0:
            yield from self._tail(files)
            return
        for path in files[:-1]:
            yield from self._read_rotated(path)
        if files:
            self._current = os.open(files[-1], os.O_RDONLY | os.O_CLOEXEC)
            yield from self.more()

    def more(self) -> Iterator[bytes]:
        """What was appended since the last call; follows a rotation to the new file."""
        if self._current is None:
            try:
                self._current = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return
        while not self.finished:
            block = os.read(self._current, BLOCK_BYTES)
            if block:
                yield self._encode_block(block)
            elif not self._follow_rotation():
                return

    def _follow_rotation(self) -> bool:
        """Open the new current file when the old one was renamed away; True when there is more."""
        assert self._current is not None
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return False
        opened = os.fstat(self._current)
        if (now.st_dev, now.st_ino) == (opened.st_dev, opened.st_ino):
            return False
        previous, self._current = self._current, os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        os.close(previous)
        return True

    def _files_oldest_first(self) -> list[Path]:
        rotated = []
        number = 1
        while (older := self._path.with_name(f"{self._path.name}.{number}")).exists():
            rotated.append(older)
            number += 1
        return [*reversed(rotated), *([self._path] if self._path.exists() else [])]

    def _read_rotated(self, path: Path) -> Iterator[bytes]:
        with path.open("rb", buffering=0) as file:
            while not self.finished and (block := file.read(BLOCK_BYTES)):
                yield self._encode_block(block)

    def _tail(self, files: list[Path]) -> Iterator[bytes]:
        """The last lines that pass the query, found by reading backwards file by file."""
        wanted = self._query.tail
        if files:
            self._current = os.open(files[-1], os.O_RDONLY | os.O_CLOEXEC)
        kept: list[Entry] = []
        for path in reversed(files):
            if len(kept) >= wanted:
                break
            is_current = path == files[-1]
            kept = [*self._last_entries(path, wanted - len(kept), is_current), *kept]
        if kept:
            yield b"".join(self._encode(entry) for entry in kept)

    def _last_entries(self, path: Path, count: int, is_current: bool) -> list[Entry]:
        with path.open("rb", buffering=0) as file:
            end = position = file.seek(0, os.SEEK_END)
            if is_current and self._current is not None:
                os.lseek(self._current, end, os.SEEK_SET)
            data = b""
            found: list[Entry] = []
            while position > 0 and len(found) < count:
                step = min(BLOCK_BYTES, position)
                position -= step
                data = os.pread(file.fileno(), step, position) + data
                lines = data.split(b"\n")
                if is_current and end == position + len(data):
                    self._rest = lines[-1]
                    lines = lines[:-1]
                    end -= len(self._rest)
                    data = data[: len(data) - len(self._rest)]
                complete = lines if position == 0 else lines[1:]
                found = [entry for line in complete if line and (entry := self._decode(line)) is not None]
            return found[-count:] if count else []

    def _encode_block(self, block: bytes) -> bytes:
        lines = (self._rest + block).split(b"\n")
        self._rest = lines.pop()
        return b"".join([self._encode(entry) for line in lines if (entry := self._decode(line)) is not None])

    def _decode(self, line: bytes) -> Entry | None:
        """The entry when it passes the query; a damaged line (a crash, a full disk) is passed over."""
        try:
            entry = self._decoder.decode(line)
        except msgspec.MsgspecError:
            return None
        query = self._query
        if not (query.stdout if entry.stream == "stdout" else query.stderr):
            return None
        if query.since_ns or query.until_ns:
            time_ns = parse_time_ns(entry.time)
            if query.until_ns and time_ns > query.until_ns:
                self.finished = True
                return None
            if time_ns < query.since_ns:
                return None
        return entry

    def _encode(self, entry: Entry) -> bytes:
        text = entry.log
        if self._query.details:
            text = f"{','.join(f'{key}={value}' for key, value in (entry.attrs or {}).items())} {text}"
        if self._query.timestamps:
            text = f"{entry.time} {text}"
        data = text.encode("utf-8", "surrogatepass")
        if not self._query.framed:
            return data
        return b"%c\0\0\0%b%b" % (_STREAM_TYPE.get(entry.stream, 1), len(data).to_bytes(4, "big"), data)


def parse_time_ns(text: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time with up to nine decimals, in UTC."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(f"{whole}+00:00").timestamp())
    return seconds * 1_000_000_000 + int(fraction[:9].ljust(9, "0") or 0)
