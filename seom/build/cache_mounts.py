"""The directories of RUN --mount=type=cache: kept from build to build, until they are pruned."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from seom.build.cache import Record
from seom.storage.database import Database
from seom.volumes.usage import disk_usage


class CacheMounts:
    """The cache directories of one instance."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._db = database
        self._folder = folder
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: Counter[str] = Counter()

    @asynccontextmanager
    async def use(self, name: str, locked: bool) -> AsyncIterator[tuple[Path, bool]]:
        """(the directory of a cache, whether it is new); locked waits until nobody else has it so."""
        lock = self._locks.setdefault(name, asyncio.Lock()) if locked else None
        if lock:
            await lock.acquire()
        self._users[name] += 1
        try:
            folder = self._folder / hashlib.sha256(name.encode()).hexdigest()
            is_new = not folder.exists()
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            now = time.time_ns()
            self._db.execute(
                "INSERT INTO build_mount VALUES (?,?,?,?,1)"
                " ON CONFLICT (id) DO UPDATE SET used_ns=excluded.used_ns, uses=uses+1",
                name,
                folder.name,
                now,
                now,
            )
            yield folder, is_new
        finally:
            self._users[name] -= 1
            if lock:
                lock.release()

    async def records(self) -> list[Record]:
        """Every cache directory as a record of the build cache."""
        found = []
        for row in self._db.rows("SELECT * FROM build_mount ORDER BY used_ns"):
            size = await asyncio.to_thread(disk_usage, self._folder / row["folder"])
            found.append(
                Record(
                    key=f"mount:{row['id']}",
                    parent="",
                    description=f"cached mount {row['id']}",
                    diff_id="",
                    created_ns=row["created_ns"],
                    used_ns=row["used_ns"],
                    uses=row["uses"],
                    size_bytes=size,
                    shared=False,
                    in_use=self._users[row["id"]] > 0,
                    type="exec.cachemount",
                )
            )
        return found

    async def remove(self, key: str) -> bool:
        """Delete one, unless a command has it mounted now."""
        name = key.removeprefix("mount:")
        if self._users[name]:
            return False
        row = self._db.row("SELECT folder FROM build_mount WHERE id=?", name)
        if row is None:
            return False
        grave = self._folder / f".{row['folder']}.{time.time_ns()}"
        self._db.execute("DELETE FROM build_mount WHERE id=?", name)
        try:
            (self._folder / row["folder"]).rename(grave)
        except FileNotFoundError:
            return True
        await asyncio.to_thread(shutil.rmtree, grave, ignore_errors=True)
        return True
