"""Volumes: named directories that containers mount and that outlive them.

A row of the database makes a volume; its directory is created before the row and removed after it.
A directory without a row (a lost database, a crash) is taken in again when the daemon starts.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

import msgspec

from seom.engine.events import EventBus
from seom.engine.filters import Filters
from seom.engine.mount_requests import MountPoint, new_volume_name
from seom.engine.timestamps import format_timestamp
from seom.errors import Conflict, InvalidParameter, NotFound, SystemFailure
from seom.storage.database import Database
from seom.volumes.copy_up import copy_up
from seom.volumes.local import ANONYMOUS_LABEL, DRIVER, LocalDriver, check_length, check_name, check_options
from seom.volumes.mounting import mount_volume, pin_subpath, unmount_volume, unpin
from seom.volumes.usage import disk_usage

LIST_FILTERS = frozenset({"dangling", "driver", "label", "name"})
PRUNE_FILTERS = frozenset({"all", "label", "label!"})


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume; created_ns is nanoseconds since the epoch, mountpoint where its content is."""

    name: str
    driver: str
    created_ns: int
    labels: dict[str, str]
    options: dict[str, str]
    mountpoint: Path

    @property
    def anonymous(self) -> bool:
        return ANONYMOUS_LABEL in self.labels

    def inspect(self) -> dict[str, object]:
        """The volume as the Engine API shows it."""
        return {
            "CreatedAt": format_timestamp(self.created_ns // 10**9 * 10**9),
            "Driver": self.driver,
            "Labels": self.labels or None,
            "Mountpoint": str(self.mountpoint),
            "Name": self.name,
            "Options": self.options or None,
            "Scope": "local",
        }


class Volumes:
    """All volumes of a daemon. Used on the event loop's thread; disk work goes to threads.

    users tells the ids of the containers that have a volume; set it once the containers are known.
    """

    def __init__(
        self,
        database: Database,
        data_root: Path,
        events: EventBus,
        users: Callable[[str], Iterable[str]] = lambda name: (),
    ) -> None:
        self._database = database
        self._events = events
        self._driver = LocalDriver(data_root / "volumes")
        self._pins = data_root / "volumes" / ".subpaths"
        self._reserved: dict[str, set[str]] = {}
        self._mounted: dict[str, set[str]] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.users = users

    async def open(self) -> None:
        """Take in directories without a row, and finish interrupted removals."""
        await asyncio.to_thread(self._driver.clean)
        await asyncio.to_thread(self._unpin_all)
        for name in await asyncio.to_thread(lambda: list(self._driver.names())):
            if self._row(name) is None:
                anonymous = re.fullmatch(r"[0-9a-f]{64}", name)
                self._insert(name, {ANONYMOUS_LABEL: ""} if anonymous else {}, {}, durable=True)

    def find(self, name: str) -> Volume | None:
        """The volume with exactly this name, or None."""
        row = self._row(name)
        return None if row is None else self._volume(row)

    def get(self, name: str) -> Volume:
        """The volume with this name; raises NotFound."""
        found = self.find(name)
        if found is None:
            raise NotFound(f"get {name}: no such volume")
        return found

    def select(self, filters: Filters | None = None) -> list[Volume]:
        """Volumes that pass the filters (dangling, driver, label, name), by name."""
        wanted = filters or Filters()
        wanted.check(LIST_FILTERS)
        dangling = wanted.flag("dangling", False) if "dangling" in wanted else None
        volumes = [self._volume(row) for row in self._database.rows("SELECT * FROM volume ORDER BY name")]
        return [
            volume
            for volume in volumes
            if _matches_name(wanted, volume.name)
            and wanted.matches("driver", volume.driver)
            and wanted.matches_labels(volume.labels)
            and (dangling is None or dangling != bool(self._users(volume.name)))
        ]

    async def create(
        self,
        name: str = "",
        driver: str = "",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        reserved_for: str = "",
    ) -> Volume:
        """The volume with this name, made now unless it exists; without a name an anonymous one.

        With reserved_for (a container's id) nobody removes it until settle().
        Raises InvalidParameter, NotFound (of the driver), SystemFailure (disk).
        """
        labels = dict(labels or {})
        if not name:
            name = new_volume_name()
            labels[ANONYMOUS_LABEL] = ""
        if (driver or DRIVER) != DRIVER:
            raise NotFound(
                f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found'
            )
        async with self._lock(name):
            if self._row(name) is None:
                if not reserved_for:
                    check_length(name)
                check_name(name)
                check_options(name, options or {})
                await self._make_directory(name)
                self._insert(name, labels, dict(options or {}), durable=not reserved_for)
                self._events.publish("volume", "create", name, {"driver": DRIVER})
            if reserved_for:
                self._reserved.setdefault(name, set()).add(reserved_for)
        return self.get(name)

    def settle(self, container_id: str) -> None:
        """End a container's reservations: its own row holds its volumes now, or it was not created."""
        for name in [name for name, holders in self._reserved.items() if container_id in holders]:
            self._reserved[name].discard(container_id)
            if not self._reserved[name]:
                del self._reserved[name]

    async def remove(self, name: str, force: bool = False) -> None:
        """Delete a volume and its content.

        Raises Conflict while a container has it, NotFound (unless force), SystemFailure.
        """
        async with self._lock(name):
            if self._row(name) is None:
                if force:
                    return
                raise NotFound(f"get {name}: no such volume")
            users = self._users(name)
            if users:
                raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
            await self._remove(name)

    async def prune(self, filters: Filters | None = None, everything: bool = False) -> tuple[list[str], int]:
        """Delete unused anonymous volumes (all unused ones with everything, or by the filter ``all``).

        Returns their names and the bytes freed.
        """
        wanted = filters or Filters()
        wanted.check(PRUNE_FILTERS)
        everything = wanted.flag("all", everything)
        removed: list[str] = []
        freed_bytes = 0
        for volume in self.select():
            if (
                (everything or volume.anonymous)
                and wanted.matches_labels(volume.labels)
                and not wanted.excludes_labels(volume.labels)
                and not self._users(volume.name)
            ):
                size_bytes = await asyncio.to_thread(disk_usage, volume.mountpoint)
                try:
                    await self.remove(volume.name)
                except (Conflict, NotFound):
                    continue
                removed.append(volume.name)
                freed_bytes += size_bytes
        self._events.publish("volume", "prune", "", {"reclaimed": str(freed_bytes)})
        return removed, freed_bytes

    async def sizes(self) -> dict[str, int]:
        """Bytes on disk by volume, as du counts them; -1 for a volume with mount options."""
        volumes = self.select()
        return {
            volume.name: -1 if volume.options else await asyncio.to_thread(disk_usage, volume.mountpoint)
            for volume in volumes
        }

    async def mount(self, point: MountPoint, container_id: str) -> str:
        """Make a volume ready for a container that starts; returns the path to bind-mount.

        Raises NotFound, InvalidParameter (of the subpath), SystemFailure.
        """
        volume = self.get(point.name)
        async with self._lock(volume.name):
            if volume.options:
                await self._mount_options(volume)
            elif not volume.mountpoint.exists():
                await self._make_directory(volume.name)
            self.hold(point, container_id)
            source = await self._pin(volume, point, container_id) if point.subpath else volume.mountpoint
        return str(source)

    async def fill(self, name: str, path: str, lowers: Sequence[str]) -> None:
        """Copy what an image has at path into a volume that is empty and not in use by a running container.

        lowers are the directories of the image's layers, topmost first.
        Raises InvalidParameter when path is a file there, SystemFailure.
        """
        async with self._lock(name):
            volume = self.find(name)
            if volume is None or volume.options or self._mounted.get(name):
                return
            try:
                await asyncio.to_thread(copy_up, lowers, path, volume.mountpoint)
            except NotADirectoryError as error:
                raise InvalidParameter(
                    f"cannot mount volume over existing file, file exists {path}"
                ) from error
            except OSError as error:
                raise SystemFailure(
                    f"cannot copy the image's {path} into volume {name}: {error.strerror}; "
                    "free some space on the disk, or mount the volume with the option nocopy"
                ) from error

    def hold(self, point: MountPoint, container_id: str) -> None:
        """Remember that a running container has a volume mounted: mount() does, and a new daemon must."""
        self._mounted.setdefault(point.name, set()).add(container_id)

    async def unmount(self, point: MountPoint, container_id: str) -> None:
        """Undo mount() for one container; may be called again."""
        holders = self._mounted.get(point.name, set())
        if container_id not in holders:
            return
        async with self._lock(point.name):
            holders.discard(container_id)
            if point.subpath:
                await asyncio.to_thread(unpin, self._pins / container_id)
            volume = self.find(point.name)
            if not holders:
                self._mounted.pop(point.name, None)
                if volume is not None and volume.options:
                    await asyncio.to_thread(unmount_volume, volume.mountpoint)

    async def _mount_options(self, volume: Volume) -> None:
        try:
            await asyncio.to_thread(mount_volume, volume.options, volume.mountpoint)
        except OSError as error:
            shown = ", ".join(f"{key}={value}" for key, value in sorted(volume.options.items()))
            raise SystemFailure(
                f"error while mounting volume '{volume.mountpoint}': failed to mount local volume: "
                f"mount {shown}: {(error.strerror or '').removeprefix('mount: ').lower()}"
            ) from error

    async def _pin(self, volume: Volume, point: MountPoint, container_id: str) -> Path:
        name = hashlib.sha256(point.destination.encode()).hexdigest()[:16]
        pin = self._pins / container_id / name
        try:
            await asyncio.to_thread(pin_subpath, volume.mountpoint, point.subpath, pin)
        except OSError as error:
            path = volume.mountpoint / point.subpath
            reason = os.strerror(error.errno or 0).lower()
            raise InvalidParameter(f"cannot access path {path}: lstat {path}: {reason}") from error
        return pin

    def reference_count(self, name: str) -> int:
        """How many containers have the volume."""
        return len(self._users(name))

    async def reset(self) -> None:
        """Delete every volume, used or not."""
        await asyncio.to_thread(self._unpin_all)
        for volume in self.select():
            async with self._lock(volume.name):
                await self._remove(volume.name)
        await asyncio.to_thread(shutil.rmtree, self._driver.directory, True)

    def _unpin_all(self) -> None:
        """A pin is needed only while a container starts."""
        if self._pins.is_dir():
            for directory in self._pins.iterdir():
                unpin(directory)
            self._pins.rmdir()

    async def _make_directory(self, name: str) -> None:
        try:
            await asyncio.to_thread(self._driver.create, name)
        except OSError as error:
            raise SystemFailure(f"cannot create volume {name}: {error.strerror}: {error.filename}") from error

    async def _remove(self, name: str) -> None:
        await asyncio.to_thread(unmount_volume, self._driver.data(name))
        # The row goes first: a crash after it leaves a directory that is taken in again, unharmed.
        with self._database.transaction(durable=True):
            self._database.execute("DELETE FROM volume WHERE name=?", name)
        try:
            aside = await asyncio.to_thread(self._driver.set_aside, name)
            if aside is not None:
                await asyncio.to_thread(self._driver.delete, aside)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise Conflict(f"remove {name}: something is mounted in it; unmount that first") from error
            raise SystemFailure(
                f"remove {name}: {error.strerror}: {error.filename}; "
                "what is left is deleted when the daemon starts again"
            ) from error
        self._events.publish("volume", "destroy", name, {"driver": DRIVER})

    def _users(self, name: str) -> list[str]:
        return [*dict.fromkeys([*self.users(name), *self._reserved.get(name, ())])]

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    def _row(self, name: str) -> sqlite3.Row | None:
        return self._database.row("SELECT * FROM volume WHERE name=?", name)

    def _insert(self, name: str, labels: dict[str, str], options: dict[str, str], durable: bool) -> None:
        with self._database.transaction(durable):
            self._database.execute(
                "INSERT INTO volume VALUES (?,?,?,?,?)",
                name,
                time.time_ns(),
                DRIVER,
                msgspec.json.encode(labels),
                msgspec.json.encode(options),
            )

    def _volume(self, row: sqlite3.Row) -> Volume:
        return Volume(
            name=row["name"],
            driver=row["driver"],
            created_ns=row["created_ns"],
            labels=msgspec.json.decode(row["labels"], type=dict[str, str]),
            options=msgspec.json.decode(row["options"], type=dict[str, str]),
            mountpoint=self._driver.data(row["name"]),
        )


def _matches_name(filters: Filters, name: str) -> bool:
    try:
        return "name" not in filters or any(
            value == name or re.search(value, name) for value in filters.values("name")
        )
    except re.error as error:
        raise InvalidParameter(f"invalid filter 'name={list(filters.values('name'))}': {error}") from error
