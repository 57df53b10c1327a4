"""Fetching blobs: a few at a time, repaired where they break, and each only once.

What came goes in batches to a sink in a thread (the disk and the digest), while the event loop
receives on. A download that breaks goes on from its last byte by a Range request; a registry that
ignores the range sends everything again, and what is known already is skipped: the digest of the
whole, which the sink verifies when it commits, covers both cases. Somebody else who wants the same
content meanwhile waits for this work and sees its progress.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from seom.images.patience import Patience
from seom.images.progress import Message, Report, advance, step
from seom.images.registry import RegistryClient
from seom.images.registry_errors import ConnectionFailed, RegistryRefusal
from seom.oci.descriptor import Descriptor

T = TypeVar("T")

BATCH_BYTES = 1 << 20
REPORT_INTERVAL_S = 0.1


def short_id(digest: str) -> str:
    """The twelve digits by which a client shows a layer."""
    return digest.partition(":")[2][:12]


class Sink(Protocol):
    """Takes the bytes of a blob in order; may block."""

    def write(self, chunk: bytes, /) -> None:
        """Append."""
        ...


class SharedWork(Generic[T]):
    """Work in progress by key, so that two who want the same thing do it once.

    The first does the work; the others see its progress and, should it fail or be cancelled,
    the next of them tries for itself, with its own credentials.
    """

    def __init__(self) -> None:
        self._running: dict[str, _Run[T]] = {}

    async def run(self, key: str, report: Report, work: Callable[[Report], Awaitable[T]]) -> T:
        """The result of the work of this key, done here or by another."""
        while run := self._running.get(key):
            if await run.follow(report):
                return run.results[0]
        run = self._running[key] = _Run(report)
        try:
            result = await work(run.report)
            run.results.append(result)
            return result
        finally:
            del self._running[key]
            run.finished.set()


class _Run(Generic[T]):
    def __init__(self, report: Report) -> None:
        self.results: list[T] = []
        self.finished = asyncio.Event()
        self._listeners: list[Report] = [report]
        self._last: Message | None = None

    def report(self, message: Message) -> None:
        self._last = message
        for listener in self._listeners:
            listener(message)

    async def follow(self, report: Report) -> bool:
        """Wait for the end and pass progress on; True when there is a result."""
        if self._last is not None:
            report(self._last)
        self._listeners.append(report)
        try:
            await self.finished.wait()
        finally:
            self._listeners.remove(report)
        return bool(self.results)


class Downloader:
    """Downloads blobs, a few at a time, repeating what breaks from where it broke."""

    def __init__(self, parallel: int = 3) -> None:
        self._slots = asyncio.Semaphore(parallel)
        self._threads = ThreadPoolExecutor(parallel + 2, "download")

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
        """Call a blocking function; returns only when it has ended, even if cancelled meanwhile."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise

    async def download(
        self, client: RegistryClient, name: str, blob: Descriptor, sink: Sink, report: Report
    ) -> None:
        """Bring every byte of a blob into sink; to commit (and so to verify) it is the caller's part.

        Raises ConnectionFailed or RegistryRefusal after too many tries without progress, and what
        the sink raises.
        """
        transfer = _Transfer(name, blob, sink, report)
        patience = Patience(client.settings)
        while True:
            before = transfer.received
            try:
                return await self._receive(client, transfer)
            except (ConnectionFailed, RegistryRefusal) as error:
                delay_s = patience.delay_after(error, progressed=transfer.received > before)
            await pause(delay_s, short_id(blob.digest), report)

    async def _receive(self, client: RegistryClient, transfer: _Transfer) -> None:
        """One request: pass on what follows the bytes that are here; raises ConnectionFailed if it breaks."""
        blob, reported_s = transfer.blob, 0.0
        async with client.open_blob(transfer.name, blob, transfer.received) as stream:
            position = stream.start
            async for batch in batches(stream.chunks):
                position += len(batch)
                if position <= transfer.received:
                    continue
                await self.in_thread(transfer.sink.write, batch[transfer.received - position :])
                transfer.received = position
                if (now := time.monotonic()) - reported_s >= REPORT_INTERVAL_S:
                    reported_s = now
                    transfer.report(advance(short_id(blob.digest), "Downloading", position, blob.size))
        if transfer.received < blob.size:
            raise ConnectionFailed(
                f"the download of {blob.digest} ended after {transfer.received} of {blob.size} bytes"
            )


@dataclass(slots=True)
class _Transfer:
    """A download and how many of its bytes are in the sink."""

    name: str
    blob: Descriptor
    sink: Sink
    report: Report
    received: int = 0


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


async def pause(delay_s: float, row: str, report: Report) -> None:
    """Wait before a repetition, telling so in the row of the transfer."""
    if delay_s >= 1:
        report(step(row, f"Retrying in {round(delay_s)} seconds"))
    await asyncio.sleep(delay_s)
