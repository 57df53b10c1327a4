"""Fetching one layer: the download, its repair, and unpacking while it still runs.

    registry --chunks--> event loop --batches--> BlobWriter (thread: file, digest)
                                       |
                                       +-------> LayerPipe --read()--> LayerStore.unpack (thread)

The pipe holds the end back until the blob's digest was verified: a layer whose download turns out
wrong is never finished. Somebody else who wants the same layer meanwhile waits for this work and
sees its progress.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from seom.images.progress import Message, Report, advance, step
from seom.images.registry import ConnectionFailed, RegistryClient, RegistryRefusal
from seom.oci.descriptor import Descriptor
from seom.storage.blobs import BlobWriter

T = TypeVar("T")

BATCH_BYTES = 1 << 20
PIPE_BYTES = 8 << 20
REPORT_INTERVAL_S = 0.1
LONGEST_DELAY_S = 30


def short_id(digest: str) -> str:
    """The twelve digits by which a client shows a layer."""
    return digest.partition(":")[2][:12]


class LayerPipe:
    """A bounded pipe from the event loop to an unpacking thread, as a readable file."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Event()
        self._room.set()
        self._changed = threading.Condition()
        self._chunks: deque[bytes] = deque()
        self._queued = 0
        self._ended = False
        self._failure: Exception | None = None
        self._abandoned = False
        self.position = 0

    async def feed(self, chunk: bytes) -> None:
        """Append; waits while much is queued that nobody has read."""
        with self._changed:
            if self._abandoned:
                return
            self._chunks.append(chunk)
            self._queued += len(chunk)
            self.position += len(chunk)
            if self._queued >= PIPE_BYTES:
                self._room.clear()
            self._changed.notify()
        await self._room.wait()

    def end(self, failure: Exception | None = None) -> None:
        """Nothing follows; with a failure the reader gets that instead of the end."""
        with self._changed:
            self._ended = True
            self._failure = self._failure or failure
            self._changed.notify()

    def abandon(self) -> None:
        """The reader is gone: feed() drops what it gets. Callable from any thread."""
        with self._changed:
            self._abandoned = True
            self._chunks.clear()
            self._queued = 0
        self._loop.call_soon_threadsafe(self._room.set)

    def read(self, size: int = -1, /) -> bytes:
        """Up to size bytes, b"" at the end; blocks. Raises the failure given to end()."""
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
            was_full = self._queued >= PIPE_BYTES
            self._queued -= len(chunk)
            has_room = was_full and self._queued < PIPE_BYTES
        if has_room:
            self._loop.call_soon_threadsafe(self._room.set)
        return chunk


class SharedWork:
    """Work in progress by key, so that two who want the same thing do it once.

    The first does the work; the others see its progress and, should it fail or be cancelled,
    the next of them tries for itself, with its own credentials.
    """

    def __init__(self) -> None:
        self._running: dict[str, _Run] = {}

    async def run(self, key: str, report: Report, work: Callable[[Report], Awaitable[None]]) -> None:
        """Return when the work of this key was done, here or by another."""
        while run := self._running.get(key):
            if await run.follow(report):
                return
        run = self._running[key] = _Run(report)
        try:
            await work(run.report)
            run.succeeded = True
        finally:
            del self._running[key]
            run.finished.set()


class _Run:
    def __init__(self, report: Report) -> None:
        self.succeeded = False
        self.finished = asyncio.Event()
        self._listeners: list[Report] = [report]
        self._last: Message | None = None

    def report(self, message: Message) -> None:
        self._last = message
        for listener in self._listeners:
            listener(message)

    async def follow(self, report: Report) -> bool:
        if self._last is not None:
            report(self._last)
        self._listeners.append(report)
        try:
            await self.finished.wait()
        finally:
            self._listeners.remove(report)
        return self.succeeded


class Downloader:
    """Downloads blobs, a few at a time, repeating what breaks from where it broke."""

    def __init__(self, parallel: int = 3) -> None:
        self._slots = asyncio.Semaphore(parallel)
        self._threads = ThreadPoolExecutor(2 * parallel + 2, "download")

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False)

    @asynccontextmanager
    async def slot(self, waiting: Callable[[], None]) -> AsyncIterator[None]:
        """A place among the few parallel downloads; waiting is called if none is free at once."""
        if self._slots.locked():
            waiting()
        async with self._slots:
            yield

    async def in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a blocking function in a thread that no other part of the daemon can use up."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    async def download(
        self,
        client: RegistryClient,
        name: str,
        blob: Descriptor,
        writer: BlobWriter,
        report: Report,
        pipe: LayerPipe | None = None,
    ) -> None:
        """Fetch a blob into writer (and pipe), verify and commit it.

        Raises ConnectionFailed or RegistryRefusal after too many tries without progress, and
        DigestMismatch.
        """
        settings = client.settings
        tries = 0
        while True:
            before = writer.size
            try:
                await self._receive(client, name, blob, writer, report, pipe)
                break
            except (ConnectionFailed, RegistryRefusal) as error:
                if isinstance(error, RegistryRefusal) and not error.worth_repeating:
                    raise
                tries = 1 if writer.size > before else tries + 1
                if tries >= settings.attempts:
                    raise
            await pause(min(settings.retry_delay_s * 2 ** (tries - 1), LONGEST_DELAY_S), blob.digest, report)
        report(step(short_id(blob.digest), "Verifying Checksum"))
        await self.in_thread(writer.commit)
        report(step(short_id(blob.digest), "Download complete"))

    async def _receive(
        self,
        client: RegistryClient,
        name: str,
        blob: Descriptor,
        writer: BlobWriter,
        report: Report,
        pipe: LayerPipe | None,
    ) -> None:
        """One request: append what comes to writer until the blob is whole."""
        reported_s = 0.0
        async with client.open_blob(name, blob, writer.size) as stream:
            if stream.start != writer.size:
                writer.restart()
            async for batch in batches(stream.chunks):
                position = writer.size
                await self.in_thread(writer.write, batch)
                if pipe is not None and writer.size > pipe.position:
                    await pipe.feed(batch[pipe.position - position :])
                if (now := time.monotonic()) - reported_s >= REPORT_INTERVAL_S:
                    reported_s = now
                    report(advance(short_id(blob.digest), "Downloading", writer.size, blob.size))
        if writer.size < blob.size:
            raise ConnectionFailed(
                f"the download of {blob.digest} ended after {writer.size} of {blob.size} bytes"
            )


async def batches(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Join small chunks; what had come before an error is given out before the error is raised."""
    waiting: list[bytes] = []
    size = 0
    failure: ConnectionFailed | None = None
    try:
        async for chunk in chunks:
            waiting.append(chunk)
            size += len(chunk)
            if size >= BATCH_BYTES:
                yield b"".join(waiting)
                waiting, size = [], 0
    except ConnectionFailed as error:
        failure = error
    if waiting:
        yield b"".join(waiting)
    if failure is not None:
        raise failure


async def pause(delay_s: float, digest: str, report: Report) -> None:
    """Wait before a repetition, telling so."""
    if delay_s >= 1:
        report(step(short_id(digest), f"Retrying in {round(delay_s)} seconds"))
    await asyncio.sleep(delay_s)
