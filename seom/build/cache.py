"""The build cache: what a step led to, found by what went into it.

A step's key is the digest of the key before it, its instruction and the digests of its input, so
equal keys mean equal results. A record is written after the layer it names, and keeps that layer
from the garbage collector until the record is pruned. Rows only, on the event loop.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from seom.images.store import ImageStore
from seom.storage.database import Database
from seom.storage.layers import Layer


@dataclass(frozen=True, slots=True)
class Record:
    """One remembered step; diff_id is empty when it changed no files. Times in nanoseconds."""

    key: str
    parent: str
    description: str
    diff_id: str
    created_ns: int
    used_ns: int
    uses: int
    size_bytes: int
    shared: bool
    """Whether an image has the layer too."""
    in_use: bool = False
    type: str = "regular"

    @property
    def is_mount(self) -> bool:
        """Whether it is a directory of RUN --mount=type=cache."""
        return self.type == "exec.cachemount"


def step_key(parent: str, *parts: object) -> str:
    """The key of a step: parts are whatever its result depends on, besides the step before."""
    return f"sha256:{hashlib.sha256(msgspec.json.encode([parent, *parts], order='sorted')).hexdigest()}"


class BuildCache:
    """The remembered steps of one instance."""

    def __init__(self, database: Database, store: ImageStore) -> None:
        self._db = database
        self._store = store

    def find(self, key: str) -> tuple[Layer | None, int] | None:
        """(layer, when it was made) of an earlier step with this key, which counts as used now."""
        row = self._db.row("SELECT diff_id, created_ns FROM build_step WHERE key=?", key)
        layer = self._store.layer(row["diff_id"]) if row and row["diff_id"] else None
        if row is None or (row["diff_id"] and layer is None):
            return None
        self._db.execute("UPDATE build_step SET used_ns=?, uses=uses+1 WHERE key=?", time.time_ns(), key)
        return layer, row["created_ns"]

    def add(self, key: str, parent: str, description: str, layer: Layer | None, created_ns: int) -> None:
        """Remember a step; hold a lease on its layer until this returns."""
        with self._db.transaction():
            if layer:
                self._store.add_layer(layer)
            self._db.execute(
                "INSERT OR REPLACE INTO build_step VALUES (?,?,?,?,?,?,0)",
                key,
                parent,
                description,
                layer.diff_id if layer else None,
                created_ns,
                time.time_ns(),
            )

    def records(self) -> list[Record]:
        """Every remembered step, the longest unused first."""
        rows = self._db.rows(
            "SELECT build_step.*, coalesce(size_bytes, 0) AS size_bytes,"
            " EXISTS (SELECT 1 FROM image_layer WHERE image_layer.diff_id=build_step.diff_id) AS shared"
            " FROM build_step LEFT JOIN layer USING (diff_id) ORDER BY used_ns, build_step.rowid"
        )
        return [_record(row) for row in rows]

    def remove(self, keys: Sequence[str]) -> int:
        """Forget steps; returns the bytes of the layers that nothing needs any more."""
        before = self._store.layers()
        with self._db.transaction(durable=True):
            for key in keys:
                self._db.execute("DELETE FROM build_step WHERE key=?", key)
            self._store.forget_unused_layers()
        after = self._store.layers()
        return sum(layer.size_bytes for diff_id, layer in before.items() if diff_id not in after)

    def clear(self) -> None:
        """Forget everything."""
        self.remove([record.key for record in self.records()])


def prunable(records: Sequence[Record], every: bool, accept: Callable[[Record], bool]) -> list[Record]:
    """The records to prune: all, or those no image is made of; only what accept() lets through."""
    if every:
        return [record for record in records if accept(record)]
    by_key = {record.key: record for record in records}
    kept: set[str] = set()
    for record in records:
        if record.shared:
            key = record.key
            while key in by_key and key not in kept:
                kept.add(key)
                key = by_key[key].parent
    return [record for record in records if record.key not in kept and accept(record)]


def _record(row: sqlite3.Row) -> Record:
    return Record(
        key=row["key"],
        parent=row["parent"],
        description=row["description"],
        diff_id=row["diff_id"] or "",
        created_ns=row["created_ns"],
        used_ns=row["used_ns"],
        uses=row["uses"],
        size_bytes=row["size_bytes"],
        shared=bool(row["shared"]),
    )
