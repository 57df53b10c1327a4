"""Byte streams between threads, and their compression.

isal, zstandard and hashlib release the interpreter's lock, so a layer's stages (receive, inflate
and digest, extract) run at the same time when each has its thread and a short pipe between them.
"""

from __future__ import annotations

import bz2
import lzma
import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar, cast

import zstandard
from isal import igzip_lib, isal_zlib

from seom.errors import InvalidParameter
from seom.storage.blobs import Readable

Result = TypeVar("Result")

PIPE_CHUNKS = 4
_SLICE_BYTES = 128 << 10
_OUTPUT_BYTES = 1 << 20
_ZSTD_WINDOW_BYTES = 128 << 20

GZIP, ZSTD, BZIP2, XZ, PLAIN = "gzip", "zstd", "bzip2", "xz", ""
_DAMAGED: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    ValueError,
    lzma.LZMAError,
    cast(type[Exception], igzip_lib.IsalError),
)
_MAGIC = {b"\x1f\x8b\x08": GZIP, b"\x28\xb5\x2f\xfd": ZSTD, b"BZh": BZIP2, b"\xfd7zXZ\x00": XZ}


def compression_of(head: bytes) -> str:
    """GZIP, ZSTD, BZIP2, XZ or PLAIN, from the first six bytes of a stream."""
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    # zstd also begins with skippable frames (zstd:chunked, seekable format)
    return ZSTD if head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F else PLAIN


class Pipe:
    """A bounded queue of chunks from one thread to another; either side can break it."""

    def __init__(self) -> None:
        self._chunks: queue.Queue[bytes | BaseException] = queue.Queue(PIPE_CHUNKS)
        self._rest = b""
        self._ended = False
        self._broken = False

    def write(self, chunk: bytes) -> None:
        """Hand over a chunk; waits while the reader is behind. Raises BrokenPipeError if it gave up."""
        if self._broken:
            raise BrokenPipeError("the reading side has stopped")
        if chunk:
            self._chunks.put(chunk)

    def close(self) -> None:
        """No more chunks follow."""
        if not self._broken:
            self._chunks.put(b"")

    def fail(self, error: BaseException) -> None:
        """The reader gets this error instead of further data."""
        if not self._broken:
            self._chunks.put(error)

    def stop_reading(self) -> None:
        """The reader's side: let the writer fail instead of waiting for ever."""
        self._broken = True
        try:
            while True:
                self._chunks.get_nowait()
        except queue.Empty:
            pass

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, at most size (one chunk when negative); empty at the end."""
        if not self._rest and not self._ended:
            item = self._chunks.get()
            if isinstance(item, BaseException):
                self._ended = True
                raise item
            self._ended = not item
            self._rest = item
        if size < 0 or len(self._rest) <= size:
            chunk, self._rest = self._rest, b""
        else:
            chunk, self._rest = self._rest[:size], self._rest[size:]
        return chunk


class Stage(Generic[Result]):
    """One step of a pipeline: a function in its own thread, and what became of it."""

    def __init__(self, run: Callable[[], Result]) -> None:
        self._run: Callable[[], Result] | None = run
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._outcome: list[Result] = []
        self._error: BaseException | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wait(self) -> None:
        """Until the function has ended, if it was ever started."""
        if self._thread.ident is not None:
            self._thread.join()

    def error(self) -> BaseException | None:
        """What the function raised, if it did; waits for its end."""
        self.wait()
        return self._error

    def result(self) -> Result:
        """What the function returned; waits for its end and raises what it raised."""
        self.wait()
        if self._error:
            raise self._error
        return self._outcome[0]

    def _work(self) -> None:
        # forgotten at once: whoever owns the stage is usually what the function is bound to
        run, self._run = self._run, None
        try:
            assert run
            self._outcome.append(run())
        except BaseException as error:
            self._error = error


class Peekable:
    """A source whose first bytes can be looked at."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._head = b""

    def peek(self, size: int) -> bytes:
        """The next size bytes, fewer only at the end, without consuming them."""
        while len(self._head) < size and (chunk := self._source.read(_SLICE_BYTES)):
            self._head += chunk
        return self._head[:size]

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, at most size; empty at the end."""
        if self._head:
            size = len(self._head) if size < 0 else size
            chunk, self._head = self._head[:size], self._head[size:]
            return chunk
        return self._source.read(size)


class _Inflater(Protocol):
    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Decompressed:
    """A reader of concatenated gzip, bzip2 or xz members with bounded memory."""

    def __init__(self, source: Readable, kind: str) -> None:
        self._source = source
        self._kind = kind
        self._inflater = self._new()
        self._pending = b""
        self._begun = False

    def _new(self) -> _Inflater:
        made: Any
        if self._kind == GZIP:
            made = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        else:
            made = bz2.BZ2Decompressor() if self._kind == BZIP2 else lzma.LZMADecompressor()
        inflater: _Inflater = made
        return inflater

    def read(self, size: int = -1, /) -> bytes:
        """Up to about a megabyte, whatever the size asked for; empty at the end."""
        while True:
            if self._inflater.eof and not self._next_member():
                return b""
            if self._inflater.needs_input and not self._pending:
                self._pending = self._source.read(_SLICE_BYTES)
                if not self._pending:
                    raise InvalidParameter(f"the {self._kind} stream ends in the middle")
            data, self._pending = self._pending, b""
            try:
                output = self._inflater.decompress(data, _OUTPUT_BYTES)
            except _DAMAGED as error:
                raise InvalidParameter(f"the {self._kind} stream is damaged: {error}") from error
            if output:
                return output

    def _next_member(self) -> bool:
        """Begin the member after the one that ended; padding with zeros is no member."""
        self._pending = self._inflater.unused_data or self._source.read(_SLICE_BYTES)
        while self._pending and not (stripped := self._pending.lstrip(b"\0")):
            self._pending = self._source.read(_SLICE_BYTES)
        if not self._pending:
            return False
        self._pending = stripped
        self._inflater = self._new()
        return True


class _ZstdDecompressed:
    """A reader of concatenated zstd frames."""

    def __init__(self, source: Readable) -> None:
        decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
        self._reader = decompressor.stream_reader(
            cast(Any, source), read_size=_SLICE_BYTES, read_across_frames=True
        )

    def read(self, size: int = -1, /) -> bytes:
        """Up to a megabyte; empty at the end."""
        try:
            output: bytes = self._reader.read(_OUTPUT_BYTES)
        except zstandard.ZstdError as error:
            raise InvalidParameter(f"the zstd stream is damaged: {error}") from error
        return output


def decompressed(source: Readable) -> tuple[str, Readable]:
    """What a stream is compressed with, and a reader of its plain content.

    Reads of the result are bounded by about a megabyte, however well the content is packed.
    They raise InvalidParameter for a damaged or truncated stream.
    """
    peekable = Peekable(source)
    kind = compression_of(peekable.peek(6))
    if kind == PLAIN:
        return kind, peekable
    return kind, _ZstdDecompressed(peekable) if kind == ZSTD else _Decompressed(peekable, kind)


class GzipCompressor:
    """gzip at isal's fast level; the same input in the same pieces gives the same bytes."""

    def __init__(self) -> None:
        self._deflater: Any = isal_zlib.compressobj(1, isal_zlib.DEFLATED, 31)

    def compress(self, chunk: bytes) -> bytes:
        """Compressed bytes so far; possibly none."""
        output: bytes = self._deflater.compress(chunk)
        return output

    def flush(self) -> bytes:
        """The end of the stream."""
        output: bytes = self._deflater.flush()
        return output
