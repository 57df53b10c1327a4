"""Between the event loop's streams and blocking code: requests into threads, archives out of them.

Each transfer has a thread of its own, not one of the shared pool: a few slow clients must not
use up the threads that everybody's short disk work needs.

    request --feed()--> Inflow --read()--> consumer thread
    response <--async for-- produce() <--write()-- producer thread
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import suppress
from typing import TypeVar

from seom.storage.blobs import Readable

Result = TypeVar("Result")

BATCH_BYTES = 1 << 20
_QUEUED_BYTES = 8 << 20


async def consume(chunks: AsyncIterable[bytes], work: Callable[[Readable], Result]) -> Result:
    """Run blocking work in a thread on a stream that arrives here; returns what it returns.

    When the stream fails, so does the work's read(). When the work fails or ends early, the rest
    of the stream is not read.
    """
    inflow = Inflow()
    task = asyncio.create_task(in_thread(lambda: inflow.used_by(work)))
    try:
        async for chunk in chunks:
            if not await inflow.feed(chunk):
                break
        inflow.end()
    except BaseException as error:
        inflow.end(error if isinstance(error, Exception) else ConnectionAbortedError("cancelled"))
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise
    return await task


async def produce(work: Callable[[Callable[[bytes], object]], object]) -> AsyncIterator[bytes]:
    """What blocking work in a thread writes, in chunks of about a megabyte."""
    outflow = Outflow()
    task = asyncio.create_task(in_thread(lambda: outflow.used_by(work)))
    try:
        while chunk := await outflow.take():
            yield chunk
        await task
    finally:
        outflow.stop()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()


async def in_thread(work: Callable[[], Result]) -> Result:
    """Run blocking work in a thread of its own, which goes on when the caller is cancelled."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()

    def settle(set_outcome: Callable[[], None]) -> None:
        if not done.done():
            set_outcome()

    def tell(set_outcome: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the daemon has ended meanwhile
            loop.call_soon_threadsafe(settle, set_outcome)

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            failure = error
            tell(lambda: done.set_exception(failure))
        else:
            tell(lambda: done.set_result(result))

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.shield(done)


class Inflow:
    """A bounded pipe from the event loop to a thread, which reads it as a file."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Event()
        self._changed = threading.Condition()
        self._chunks: deque[bytes] = deque()
        self._batch: list[bytes] = []
        self._batch_bytes = 0
        self._queued = 0
        self._ended = False
        self._failure: Exception | None = None
        self._abandoned = False

    async def feed(self, chunk: bytes) -> bool:
        """Append; waits while much is queued. False when nobody reads any more."""
        self._batch.append(chunk)
        self._batch_bytes += len(chunk)
        if self._batch_bytes >= BATCH_BYTES or not self._queued:
            self._hand_over()
            while self._queued >= _QUEUED_BYTES and not self._abandoned:
                self._room.clear()
                if self._queued >= _QUEUED_BYTES and not self._abandoned:
                    await self._room.wait()
        return not self._abandoned

    def end(self, failure: Exception | None = None) -> None:
        """Nothing follows; with a failure the reader gets that instead of the end."""
        self._hand_over()
        with self._changed:
            self._ended = True
            self._failure = failure
            self._changed.notify()

    def used_by(self, work: Callable[[Readable], Result]) -> Result:
        """Run the reader; when it ends, feed() stops."""
        try:
            return work(self)
        finally:
            with self._changed:
                self._abandoned = True
                self._chunks.clear()
            self._loop.call_soon_threadsafe(self._room.set)

    def read(self, size: int = -1, /) -> bytes:
        """Up to size bytes, empty at the end; blocks. Raises the failure given to end()."""
        with self._changed:
            while not self._chunks and not self._ended:
                self._changed.wait()
            if self._failure is not None:
                raise self._failure
            if not self._chunks:
                return b""
            chunk = self._chunks.popleft()
            if 0 <= size < len(chunk):
                self._chunks.appendleft(chunk[size:])
                chunk = chunk[:size]
            was_full = self._queued >= _QUEUED_BYTES
            self._queued -= len(chunk)
            has_room = was_full and self._queued < _QUEUED_BYTES
        if has_room:
            self._loop.call_soon_threadsafe(self._room.set)
        return chunk

    def _hand_over(self) -> None:
        if not self._batch:
            return
        chunk = b"".join(self._batch)
        self._batch, self._batch_bytes = [], 0
        with self._changed:
            self._chunks.append(chunk)
            self._queued += len(chunk)
            self._changed.notify()


class Outflow:
    """A bounded pipe from a thread to the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._available = asyncio.Event()
        self._changed = threading.Condition()
        self._chunks: deque[bytes] = deque()
        self._batch: list[bytes] = []
        self._batch_bytes = 0
        self._queued = 0
        self._ended = False
        self._stopped = False

    def used_by(self, work: Callable[[Callable[[bytes], object]], object]) -> None:
        """Run the writer; take() ends when it does, whatever its outcome."""
        try:
            work(self.write)
            self._hand_over()
        finally:
            with self._changed:
                self._ended = True
            self._loop.call_soon_threadsafe(self._available.set)

    def write(self, chunk: bytes) -> None:
        """Append; blocks while much is queued. Raises BrokenPipeError when nobody takes any more."""
        self._batch.append(chunk)
        self._batch_bytes += len(chunk)
        if self._batch_bytes >= BATCH_BYTES:
            self._hand_over()

    async def take(self) -> bytes:
        """The next chunk; empty at the end."""
        while True:
            with self._changed:
                if self._chunks:
                    chunk = self._chunks.popleft()
                    self._queued -= len(chunk)
                    self._changed.notify()
                    return chunk
                if self._ended:
                    return b""
                self._available.clear()
            await self._available.wait()

    def stop(self) -> None:
        """Take no more; the writer's next write fails."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _hand_over(self) -> None:
        chunk = b"".join(self._batch)
        self._batch, self._batch_bytes = [], 0
        with self._changed:
            while self._queued >= _QUEUED_BYTES and not self._stopped:
                self._changed.wait()
            if self._stopped:
                raise BrokenPipeError("nobody reads the archive any more")
            if chunk:
                self._chunks.append(chunk)
                self._queued += len(chunk)
        self._loop.call_soon_threadsafe(self._available.set)
