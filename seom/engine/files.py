"""The files of containers, running or not: copies in and out, export, what has changed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from seom.containers.archive import Bind, View
from seom.containers.changes import Change, changes
from seom.containers.container_path import PathStat
from seom.containers.files import FileServer
from seom.containers.user import resolve_user
from seom.engine.container import Container
from seom.engine.events import EventBus
from seom.engine.images import Images
from seom.engine.mounts import MountPoint
from seom.engine.volumes import Volumes
from seom.errors import SystemFailure


class Files:
    """What clients do with the files of containers.

    A running container is looked into through its first process, so that everything mounted there is
    seen; otherwise its layers and volumes are put together for the moment of the request.
    """

    def __init__(self, images: Images, volumes: Volumes, events: EventBus) -> None:
        self._images = images
        self._volumes = volumes
        self._events = events
        self._server = FileServer()

    async def stat(self, container: Container, path: str) -> PathStat:
        """Describe a path. Raises NotFound, InvalidParameter, SystemFailure."""
        async with self._view(container) as view:
            return await self._server.stat(view, path)

    @asynccontextmanager
    async def read(
        self, container: Container, path: str
    ) -> AsyncIterator[tuple[PathStat, AsyncIterator[bytes]]]:
        """A path's description and its tar archive in chunks. Raises as stat()."""
        async with self._view(container) as view, self._server.read(view, path) as opened:
            self._publish(container, "archive-path")
            yield opened

    async def write(
        self,
        container: Container,
        path: str,
        archive: AsyncIterator[bytes],
        for_user: bool = False,
        keep_kinds: bool = False,
    ) -> None:
        """Extract a tar archive into a directory; for_user gives the files to the container's user.

        Raises NotFound, InvalidParameter, Forbidden (read-only), SystemFailure.
        """
        owner = await asyncio.to_thread(self._owner, container) if for_user else None
        if container.running:
            async with self._view(container) as view:
                await self._server.write(view, path, archive, owner, keep_kinds)
        else:
            # Two overlays may not write into one upper directory: no start, no other copy meanwhile.
            async with container.lock, self._view(container) as view:
                await self._server.write(view, path, archive, owner, keep_kinds)
        self._publish(container, "extract-to-dir")

    @asynccontextmanager
    async def export(self, container: Container) -> AsyncIterator[AsyncIterator[bytes]]:
        """A tar archive of the container's own files, without volumes. Raises SystemFailure."""
        async with self._server.export(self._stopped_view(container, [])) as chunks:
            yield chunks
        self._publish(container, "export")

    async def changes(self, container: Container) -> list[Change]:
        """What the container changed in its image's files. Raises SystemFailure."""
        try:
            return await asyncio.to_thread(changes, self._lowers(container), self._upper(container))
        except OSError as error:
            raise SystemFailure(
                f"cannot compare the files of container {container.short_id}: {error.strerror}"
            ) from error

    @asynccontextmanager
    async def _view(self, container: Container) -> AsyncIterator[View]:
        root = _open_root(container)
        if root is not None:
            try:
                yield msgspec.structs.replace(self._stopped_view(container, []), root=root)
            finally:
                os.close(root)
            return
        # Volumes with mount options have content only while they are mounted.
        holder = f"files-of-{container.id}"
        points = [point for point in container.definition.mounts if point.type in ("volume", "bind")]
        try:
            binds = [await self._bind(point, holder) for point in points]
            yield self._stopped_view(container, binds)
        finally:
            for point in points:
                if point.type == "volume":
                    await self._volumes.unmount(point, holder)

    async def _bind(self, point: MountPoint, holder: str) -> Bind:
        source = await self._volumes.mount(point, holder) if point.type == "volume" else point.source
        return Bind(source, point.destination, read_only=not point.rw)

    def _stopped_view(self, container: Container, binds: list[Bind]) -> View:
        return View(
            container=container.name,
            lowers=self._lowers(container),
            upper=self._upper(container),
            work=str(container.directory / "work"),
            binds=binds,
            read_only_root=container.host.readonly_rootfs,
        )

    def _lowers(self, container: Container) -> list[str]:
        return self._images.layer_paths_of(container.definition.diff_ids)

    def _upper(self, container: Container) -> str:
        return str(container.directory / "upper")

    def _owner(self, container: Container) -> tuple[int, int] | None:
        if not container.config.user:
            return None
        layers = [self._upper(container), *self._lowers(container)]
        user = resolve_user(container.config.user, layers).user
        return user.uid, user.gid

    def _publish(self, container: Container, action: str) -> None:
        self._events.publish("container", action, container.id, container.event_attributes())


def _open_root(container: Container) -> int | None:
    """A descriptor of a running container's root, None for others (also when it ends just now)."""
    if not container.running or not container.state.pid:
        return None
    try:
        return os.open(f"/proc/{container.state.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return None
