"""Images: what the daemon can do with them besides talking to registries.

Rows are changed on the event loop, content in threads, in the order that a crash leaves only
garbage: content first, then rows; rows first, then files. A collector deletes what no row and no
lease needs, in the background, after removals and at start.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any

from seom.engine.events import EventBus
from seom.engine.full_disk import full_disk_explained
from seom.engine.image_removal import Removal, User
from seom.errors import InvalidParameter, NotFound, SeomError, SystemFailure
from seom.images.changes import apply_changes
from seom.images.feeding import consume, in_thread, produce
from seom.images.loading import ArchiveLoader, LoadedImage
from seom.images.making import CommitSource, ImageMaker, merged
from seom.images.progress import Message, Report
from seom.images.saving import SavedImage, save
from seom.images.store import Image, ImageStore, NewImage
from seom.linux.malloc import malloc_trim
from seom.linux.sync import syncfs
from seom.oci.descriptor import Platform, host_platform, matches, parse_platform
from seom.oci.image_config import ExecutionConfig
from seom.oci.reference import Reference
from seom.storage.blobs import BlobStore
from seom.storage.database import Database
from seom.storage.gc import Collected, Roots, sweep_files
from seom.storage.layers import LayerStore
from seom.storage.leases import Leases

log = logging.getLogger(__name__)


class Images:
    """The images of one instance."""

    def __init__(
        self,
        database: Database,
        data_root: Path,
        events: EventBus,
        users: Callable[[str], Sequence[User]],
        settle_delay_s: float = 20,
    ) -> None:
        """users tells which containers are made from an image id, running or not.

        After settle_delay_s new layers are forced to disk, if the kernel has not written them yet.
        """
        self.blobs = BlobStore(data_root)
        self.layers = LayerStore(data_root, self.blobs)
        self.leases = Leases()
        self.store = ImageStore(database, self.layers)
        self.users = users
        self.data_root = data_root
        self._events = events
        self._removal = Removal(self.store, users, self._publish)
        self._settle_delay_s = settle_delay_s
        self._settling: asyncio.Task[object] | None = None
        self._collecting = asyncio.Lock()
        self._tasks: set[asyncio.Task[object]] = set()

    async def open(self) -> None:
        """Clean up after an earlier run: half-made content, layers that a power failure may have cut."""
        await asyncio.to_thread(self.blobs.remove_leftovers)
        await asyncio.to_thread(self.layers.remove_leftovers)
        for layer in self.store.unsynced():
            if layer.boot_id != self.layers.boot_id:
                await self._unpack_again(layer.diff_id, layer.blob)
        self._forget_unused_hidden()
        self._settle_later()
        self._in_background(self.collect())

    async def close(self) -> None:
        """Give up what runs in the background; the next start does it again."""
        for task in self._tasks:
            task.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def settled(self) -> None:
        """Wait for what runs in the background."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def reset(self) -> None:
        """Remove every image, used or not, and all files."""
        for image in self.store.all():
            self.store.remove(image.id)
        for image_id in self.store.hidden():
            self.store.remove(image_id)
        await self.collect()

    # Finding

    def resolve(self, name: str, platform: str = "") -> Image:
        """The image of a name or id; raises NotFound, also when it is for another platform."""
        image = self.store.resolve(name)
        if platform and not matches(image.config.platform, wanted := parse_platform(platform)):
            raise NotFound(
                f"image with reference {name} was found but its platform ({image.config.platform}) does not "
                f"match the specified platform ({wanted})"
            )
        return image

    def id_of(self, name: str) -> str:
        """The image id of a name; empty when there is none."""
        try:
            return self.store.resolve_id(name)[0]
        except SeomError:
            return ""

    def layer_paths(self, image: Image) -> list[str]:
        """The lower directories of a container of the image, topmost first."""
        return self.layer_paths_of(image.diff_ids)

    def layer_paths_of(self, diff_ids: Sequence[str]) -> list[str]:
        """Lower directories for layers given lowest first; see ImageStore.layer_paths.

        An image without layers has an empty directory, since an overlay needs one.
        Raises SystemFailure when one is missing on disk.
        """
        if not diff_ids:
            return [str(self.layers.empty())]
        topmost_first = dict.fromkeys(reversed(diff_ids))
        paths = [self.layers.path(diff_id) for diff_id in topmost_first]
        for path in paths:
            if not path.exists():
                raise SystemFailure(
                    f"the files of the image's layer {path.parent.name} are missing; remove the image, then "
                    "pull or load it again"
                )
        return [str(path) for path in paths]

    def diff_ids_of(self, image_id: str) -> list[str]:
        """The layers of an image, lowest first; raises NotFound."""
        return self.store.get(image_id).diff_ids

    def size_of(self, diff_ids: Iterable[str]) -> int:
        """Bytes of the files in these layers, each counted once."""
        known = self.store.layers()
        return sum(known[diff_id].size_bytes for diff_id in set(diff_ids) if diff_id in known)

    # Names

    def tag(self, name: str, reference: Reference) -> None:
        """Give an image a further name; raises NotFound and InvalidParameter."""
        check_unambiguous(reference)
        image_id, _ = self.store.resolve_id(name)
        self.store.tag(reference.with_default_tag(), image_id)
        self._publish("tag", image_id, reference.with_default_tag().familiar)

    # Archives

    async def load(
        self, chunks: AsyncIterable[bytes], report: Report, platform: str = "", quiet: bool = False
    ) -> list[Image]:
        """Take in every image of an archive; see images.loading for the formats and errors.

        The report gets Docker's closing line for each name.
        """
        loop = asyncio.get_running_loop()

        def tell(message: Message) -> None:
            loop.call_soon_threadsafe(report, message)

        with self.leases.lease() as lease:
            wanted = parse_platform(platform) if platform else None
            loader = ArchiveLoader(
                self.blobs, self.layers, self.store.layers(), lease, None if quiet else tell, wanted
            )
            with full_disk_explained(self.data_root):
                loaded = await consume(chunks, loader.load)
            images = [self._adopt(one, report) for one in loaded]
        self.content_arrived()
        return images

    def _adopt(self, loaded: LoadedImage, report: Report) -> Image:
        for tag in loaded.tags:
            before = self.store.find(tag)
            if before and before != loaded.image.id:
                moved = f"The image {tag.familiar} already exists, renaming the old one with ID {before}"
                report(Message(stream=f"{moved} to empty string\n"))
        image = self.store.add(loaded.image, loaded.tags)
        self._publish("load", image.id, image.id)
        for tag in loaded.tags:
            report(Message(stream=f"Loaded image: {tag.familiar}\n"))
        if not loaded.tags:
            report(Message(stream=f"Loaded image ID: {image.id}\n"))
        return image

    async def save(self, names: Sequence[str]) -> AsyncIterator[bytes]:
        """One archive of the images named, as chunks; raises NotFound before the first.

        A name without a tag saves every tag of that repository.
        """
        saved = self._choose_saved(names)
        with self.leases.lease() as lease:
            for one in saved:
                lease.hold(one.image.id, *(layer.blob for layer in one.image.layers))
            async for chunk in produce(lambda write: save(saved, self.blobs, write)):
                yield chunk
        for one in saved:
            self._publish("save", one.image.id, one.image.id)

    def check_saved(self, names: Sequence[str]) -> None:
        """Raise what save() would raise before its first chunk."""
        self._choose_saved(names)

    def _choose_saved(self, names: Sequence[str]) -> list[SavedImage]:
        chosen: dict[str, SavedImage] = {}
        for name in names:
            for image_id, tag in self._named(name):
                saved = chosen.setdefault(image_id, SavedImage(self.store.get(image_id)))
                if tag and tag not in saved.tags:
                    saved.tags.append(tag)
        return list(chosen.values())

    def _named(self, name: str) -> list[tuple[str, Reference | None]]:
        """The images that an argument of save means, with the tag to save each under."""
        if tags := self.store.tags_of_repository(name):
            return [(image_id, tag) for tag, image_id in tags]
        try:
            image_id, reference = self.store.resolve_id(name)
        except NotFound as error:
            raise NotFound(f"No such image: {name}") from error
        return [(image_id, reference if reference and not reference.digest else None)]

    # New images

    async def import_rootfs(
        self,
        chunks: AsyncIterable[bytes],
        reference: Reference | None,
        changes: Sequence[str] = (),
        message: str = "",
        platform: str = "",
    ) -> Image:
        """An image from the tar of a file system, plain or compressed."""
        config = apply_changes(ExecutionConfig(), changes)
        wanted = parse_platform(platform) if platform else host_platform()
        with self.leases.lease() as lease:
            maker = ImageMaker(self.blobs, self.layers, lease)
            with full_disk_explained(self.data_root):
                made = await consume(
                    chunks, lambda source: maker.import_rootfs(source, config, _importable(wanted), message)
                )
            image = self._add(made, reference)
        self._publish("import", image.id, image.id)
        return image

    async def commit(
        self,
        source: CommitSource,
        reference: Reference | None,
        wanted: ExecutionConfig | None = None,
        changes: Sequence[str] = (),
        author: str = "",
        message: str = "",
    ) -> Image:
        """An image from a container's changes; the caller pauses it, so that files are consistent."""
        config = apply_changes(merged(wanted, source.config), changes)
        with self.leases.lease() as lease, self.store.hold(source.parent.id):
            for layer in source.parent.layers:
                lease.hold(layer.diff_id, layer.blob)
            maker = ImageMaker(self.blobs, self.layers, lease)
            with full_disk_explained(self.data_root):
                made = await in_thread(lambda: maker.commit(source, config, author, message))
            return self._add(made, reference)

    def _add(self, made: NewImage, reference: Reference | None) -> Image:
        image = self.store.add(made)
        if reference:
            self.tag(image.id, reference)
        self._settle_later()
        return self.store.get(image.id)

    def add_built(self, made: NewImage, tags: Sequence[Reference]) -> Image:
        """Record an image that a build has made; its content is stored, and held by a lease."""
        if not self.store.exists(made.id):
            self.store.add(made)
        for tag in tags:
            if self.store.find(tag) != made.id:
                self.tag(made.id, tag)
        self._in_background(self._settle())
        return self.store.get(made.id)

    # Removing

    def remove(self, name: str, force: bool = False, prune_parents: bool = True) -> list[dict[str, str]]:
        """Remove a name, and the image with its last one; returns Docker's Untagged and Deleted items."""
        removed = self._removal.remove(name, force, prune_parents)
        self._in_background(self.collect())
        return removed

    def prune(self, dangling_only: bool, accept: Callable[[Image], bool]) -> tuple[list[dict[str, str]], int]:
        """Remove unused images that accept() lets through: (items, bytes of the layers removed)."""
        before = self.store.layers()
        removed = self._removal.prune(dangling_only, accept)
        after = self.store.layers()
        freed = sum(layer.size_bytes for diff_id, layer in before.items() if diff_id not in after)
        self._events.publish("image", "prune", "", {"reclaimed": str(freed)})
        self._in_background(self.collect())
        return removed, freed

    def release(self, image_id: str) -> None:
        """A container of the image is gone: one that was kept only for it may go too."""
        if self.store.is_hidden(image_id) and not self.users(image_id):
            self._in_background(self.collect())

    async def collect(self) -> Collected:
        """Delete the files that nothing needs any more."""
        async with self._collecting:
            self._forget_unused_hidden()
            with self.leases.sweep() as discard:
                blobs, diff_ids = self.store.roots()
                roots = Roots(blobs, diff_ids)
                collected = await in_thread(lambda: sweep_files(self.blobs, self.layers, roots, discard))
                # what went through the threads of a load is kept by the C library otherwise
                await in_thread(malloc_trim)
            self.store.forget_sources()
        if collected.layers or collected.blobs:
            log.info("collected %d layers, %d blobs", len(collected.layers), len(collected.blobs))
        return collected

    def _forget_unused_hidden(self) -> None:
        for image_id in self.store.hidden():
            if not self.users(image_id) and not self.store.is_held(image_id):
                self.store.remove(image_id)

    # In the background

    def content_arrived(self) -> None:
        """Something was put into the stores from outside: let it become durable, let waste be removed."""
        self._settle_later()
        self._in_background(self.collect())

    def _settle_later(self) -> None:
        if self._settling is None or self._settling.done():
            self._settling = self._in_background(self._settle())

    async def _settle(self) -> None:
        """Once new layers are on disk, trust them after the next boot too.

        The kernel is given time to write by itself: to insist at once would delay everybody's writes,
        and what is removed again soon never needs to be written.
        """
        while unsynced := [layer.diff_id for layer in self.store.unsynced()]:
            await asyncio.sleep(self._settle_delay_s)
            await in_thread(self._sync)
            self.store.mark_synced(unsynced)

    def _sync(self) -> None:
        directory = os.open(self.data_root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syncfs(directory)
        finally:
            os.close(directory)

    async def _unpack_again(self, diff_id: str, blob: str) -> None:
        """The machine went down before a layer was known to be on disk: make it anew from its blob."""
        log.info("unpacking layer %s again: the machine stopped before it was on disk", diff_id)
        await in_thread(lambda: self.layers.remove(diff_id))
        try:
            await in_thread(lambda: self.layers.unpack_blob(blob, diff_id))
        except (SeomError, OSError) as error:
            log.error("layer %s cannot be restored: %s", diff_id, error)

    def _in_background(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        task: asyncio.Task[object] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("work on images failed", exc_info=error)

    def _publish(self, action: str, image_id: str, name: str) -> None:
        labels: dict[str, str] = {}
        try:
            labels = self.store.get(image_id).config.execution.labels or {}
        except NotFound:
            pass
        self._events.publish("image", action, image_id, {**labels, "name": name})


def check_unambiguous(reference: Reference) -> None:
    """Raise InvalidParameter for a name that could be read as a digest (sha256:x)."""
    if reference.familiar_repository in {"sha256", "sha512"}:
        raise InvalidParameter("refusing to create an ambiguous tag using digest algorithm as name")


def _importable(platform: Platform) -> Platform:
    if platform.os != "linux":
        raise InvalidParameter(f'operating system "{platform.os}" is not supported')
    return platform
