"""Builds: running them, and the cache they share."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec

from seom.build.building import Building
from seom.build.cache import BuildCache, Record, prunable
from seom.build.cache_mounts import CacheMounts
from seom.build.checking import check
from seom.build.options import BuildOptions
from seom.build.state import State
from seom.build.threads import run_to_end
from seom.build.workspace import MOUNTS, Workspace, remove_leftovers
from seom.engine.engine import Engine
from seom.engine.full_disk import full_disk_explained
from seom.images.feeding import consume
from seom.images.progress import Message, Report
from seom.images.store import Image, NewImage
from seom.oci.descriptor import digest_of
from seom.oci.image_config import encode_image_config
from seom.storage.leases import Lease


class BuildResult(msgspec.Struct, frozen=True):
    """What a build tells programs."""

    id: str = msgspec.field(name="ID")


class Builds:
    """The builds of one instance."""

    def __init__(self, engine: Engine) -> None:
        """Deletes what builds of an earlier daemon left."""
        self.engine = engine
        self.folder = engine.settings.data_root / "builds"
        self.folder.mkdir(mode=0o700, exist_ok=True)
        remove_leftovers(self.folder)
        self.cache = BuildCache(engine.db, engine.images.store)
        self.cache_mounts = CacheMounts(engine.db, self.folder / MOUNTS)
        self._locks: dict[str, asyncio.Lock] = {}
        self._waiting: Counter[str] = Counter()

    async def build(self, context: AsyncIterable[bytes], options: BuildOptions, report: Report) -> Image:
        """Build an image from a context, a tar. Raises what the first failing step raised."""
        workspace = await asyncio.to_thread(Workspace, self.folder)
        try:
            with full_disk_explained(self.folder), self.engine.images.leases.lease() as lease:
                await consume(context, workspace.receive)
                tell = _silent if options.quiet else report
                building = Building(self, options, workspace, lease, tell)
                state = await building.run()
                image = await self._record(state, options, lease)
        finally:
            await asyncio.shield(asyncio.to_thread(workspace.close))
        self._announce(image, options, report)
        return image

    async def check(self, context: AsyncIterable[bytes], options: BuildOptions, report: Report) -> None:
        """Report what lint finds in the context's Dockerfile. Raises ChecksFailed if that is anything."""
        workspace = await asyncio.to_thread(Workspace, self.folder)
        try:
            with full_disk_explained(self.folder):
                await consume(context, workspace.receive)
            check(workspace, options, self.engine.images.store, report)
        finally:
            await asyncio.shield(asyncio.to_thread(workspace.close))

    async def _record(self, state: State, options: BuildOptions, lease: Lease) -> Image:
        """The image of a state, with its names; one that is there already gets the names only."""
        images = self.engine.images
        document = encode_image_config(state.document())
        image_id = digest_of(document)
        lease.hold(image_id)
        if not images.store.exists(image_id):
            await run_to_end(lambda: images.blobs.add(document, image_id))
        return images.add_built(NewImage(image_id, document, state.layers), options.tags)

    def _announce(self, image: Image, options: BuildOptions, report: Report) -> None:
        if options.quiet:
            report(Message(stream=f"{image.id}\n"))
            return
        report(Message(aux=BuildResult(image.id)))
        report(Message(stream=f"Successfully built {image.id.removeprefix('sha256:')[:12]}\n"))
        for tag in options.tags:
            report(Message(stream=f"Successfully tagged {tag.familiar}\n"))

    # The cache

    @asynccontextmanager
    async def cache_lock(self, key: str) -> AsyncIterator[None]:
        """One maker at a time for each key."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        self._waiting[key] += 1
        try:
            async with lock:
                yield
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key], self._locks[key]

    async def records(self) -> list[Record]:
        """Everything the cache holds, the longest unused first."""
        steps = [replace(record, in_use=record.key in self._locks) for record in self.cache.records()]
        return sorted([*steps, *await self.cache_mounts.records()], key=lambda record: record.used_ns)

    async def prune(
        self, every: bool, accept: Callable[[Record], bool], keep_bytes: int = 0
    ) -> tuple[list[str], int]:
        """Remove what no image is made of (or everything) that accept() lets through.

        The longest unused goes first, until no more than keep_bytes are left.
        Returns (keys, bytes freed).
        """
        records = await self.records()
        left = sum(record.size_bytes for record in records)
        chosen = []
        for record in prunable(records, every, accept):
            if keep_bytes and left <= keep_bytes:
                break
            chosen.append(record)
            left -= record.size_bytes
        removed = [record for record in chosen if not record.in_use]
        freed = self.cache.remove([record.key for record in removed if not record.is_mount])
        for record in removed:
            if record.is_mount and await self.cache_mounts.remove(record.key):
                freed += record.size_bytes
        self.engine.events.publish("builder", "prune", "", {"reclaimed": str(freed)})
        await self.engine.images.collect()
        return [record.key for record in removed], freed

    async def reset(self) -> None:
        """Forget everything."""
        await self.prune(True, lambda record: True)


def _silent(message: Message) -> None:
    pass
