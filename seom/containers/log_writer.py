"""Container logs in Docker's json-file format, a whole chunk of output at a time.

    {"log":"text\\n","stream":"stdout","attrs":{...},"time":"2026-11-23T10:20:30.123456789Z"}

One line of output is one entry; a longer line is cut into entries of 16 KiB whose text lacks the
newline. A file that has reached max_size_bytes is renamed to PATH.1, PATH.1 to PATH.2 and so on, up
to max_files in all.
"""

from __future__ import annotations

import os
import time

STREAMS = ("stdin", "stdout", "stderr")  # by descriptor number
PARTIAL_BYTES = 16 * 1024

_PLAIN = bytes({*range(0x20, 0x7F)} - set(b'"\\<>&')) + b"\n"
_ESCAPES = {byte: b"\\u%04x" % byte for byte in (*range(0x20), *b"<>&")}
_ESCAPES.update({ord("\\"): b"\\\\", ord('"'): b'\\"', ord("\r"): b"\\r"})


def timestamp(now_ns: int) -> str:
    """RFC 3339 in UTC with as many decimals as needed, as Go writes it."""
    seconds, fraction = divmod(now_ns, 1_000_000_000)
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{moment}.{fraction:09d}".rstrip("0").rstrip(".") + "Z"


def escape(data: bytes) -> bytes:
    """Make data fit between the quotes of a JSON string; newlines stay as they are."""
    special = data.translate(None, _PLAIN)
    if not special:
        return data
    if not special.isascii():
        data = _valid_utf8(data)
    present = set(special)
    if 0x5C in present:
        data = data.replace(b"\\", b"\\\\")
    for byte in present:
        if byte < 0x80 and byte != 0x5C:
            data = data.replace(bytes((byte,)), _ESCAPES.get(byte) or b"\\u%04x" % byte)
    return data


def _valid_utf8(data: bytes) -> bytes:
    try:
        data.decode()
    except UnicodeDecodeError:
        data = data.decode(errors="replace").encode()
    # Valid in JSON, but line ends in JavaScript: Go escapes them, too.
    return data.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")


def long_line_at(data: bytes) -> int:
    """Where the first line of more than 16 KiB starts, -1 if there is none."""
    position = 0
    while len(data) - position > PARTIAL_BYTES:
        newline = data.rfind(b"\n", position, position + PARTIAL_BYTES + 1)
        if newline < 0:
            return position
        position = newline + 1
    return -1


class LogWriter:
    """The log file of one container. Not thread-safe."""

    def __init__(self, path: str, max_size_bytes: int = -1, max_files: int = 1, attrs: bytes = b"") -> None:
        """Open, or make, the file. attrs: a JSON object added to each entry, b"" for none."""
        self.path = path
        self.max_size_bytes = max_size_bytes
        self.max_files = max(1, max_files)
        self._attrs = b'"attrs":' + attrs + b"," if attrs else b""
        self._descriptor = self._open()

    def _open(self, truncate: bool = False) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | (os.O_TRUNC if truncate else 0)
        return os.open(self.path, flags, 0o640)

    def position(self) -> tuple[int, int]:
        """The file's inode number and its size in bytes."""
        status = os.fstat(self._descriptor)
        return status.st_ino, status.st_size

    def truncate(self, size_bytes: int) -> None:
        """Take back what was written behind size_bytes."""
        os.ftruncate(self._descriptor, size_bytes)

    def format(self, stream: int, text: bytes, now_ns: int) -> bytes:
        """Entries for text, which ends with a newline or is a part of a line."""
        end = b'","stream":"%b",%b"time":"%b"}\n' % (
            STREAMS[stream].encode(),
            self._attrs,
            timestamp(now_ns).encode(),
        )
        body = escape(text)
        if not body.endswith(b"\n"):
            return b'{"log":"' + body.replace(b"\n", b"\\n" + end + b'{"log":"') + end
        return b'{"log":"' + body[:-1].replace(b"\n", b"\\n" + end + b'{"log":"') + b"\\n" + end

    def write(self, entries: bytes) -> None:
        """Append whole entries. Raises OSError, ENOSPC among them, possibly after a part."""
        view = memoryview(entries)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def would_cross_limit(self, size_bytes: int) -> bool:
        """Whether so much more makes the file reach its limit."""
        return self.max_size_bytes > 0 and self.position()[1] + size_bytes >= self.max_size_bytes

    def rotate_if_full(self) -> bool:
        """Start a new file when the present one has reached its limit."""
        if self.max_size_bytes <= 0 or self.position()[1] < self.max_size_bytes:
            return False
        for number in range(self.max_files - 1, 0, -1):
            older = f"{self.path}.{number - 1}" if number > 1 else self.path
            try:
                os.rename(older, f"{self.path}.{number}")
            except FileNotFoundError:
                pass
        os.close(self._descriptor)
        self._descriptor = self._open(truncate=True)
        return True

    def reopen(self) -> None:
        """Open the path again, after somebody else moved the file."""
        os.close(self._descriptor)
        self._descriptor = self._open()

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
