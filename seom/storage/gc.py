"""Garbage collection: delete blobs and layers that no row and no lease needs.

It runs beside pulls and loads without stopping them:

    1. leases.sweep() begins: from here on every digest somebody holds is remembered
    2. the caller reads the roots from the database (on the event loop)
    3. sweep_files() lists what is on disk and deletes what is neither root nor remembered

Work that committed its rows before 2 is found in the roots; work that commits later still holds
its lease after 1. See storage.leases.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass

from seom.storage.blobs import BlobStore
from seom.storage.layers import LayerStore

Discard = Callable[[str, Callable[[], None]], bool]


@dataclass(frozen=True, slots=True)
class Roots:
    """What must stay, by digest."""

    blobs: set[str]
    layers: set[str]


@dataclass(frozen=True, slots=True)
class Collected:
    """What was deleted."""

    blobs: list[str]
    layers: list[str]
    blob_bytes: int


def sweep_files(blobs: BlobStore, layers: LayerStore, roots: Roots, discard: Discard) -> Collected:
    """Delete everything that is no root and that discard() lets go; blocks."""
    gone_layers = [
        diff_id
        for diff_id in list(layers.diff_ids())
        if diff_id not in roots.layers and _remove_layer(layers, diff_id, discard)
    ]
    sizes = {
        digest: size
        for digest in list(blobs.digests())
        if digest not in roots.blobs and (size := _remove_blob(blobs, digest, discard)) is not None
    }
    return Collected(list(sizes), gone_layers, sum(sizes.values()))


def _remove_blob(blobs: BlobStore, digest: str, discard: Discard) -> int | None:
    sizes: list[int] = []
    discarded = discard(digest, lambda: sizes.append(blobs.remove(digest)))
    return sum(sizes) if discarded else None


def _remove_layer(layers: LayerStore, diff_id: str, discard: Discard) -> bool:
    """Out of sight while nobody can begin to hold it, deleted afterwards."""
    graves = []

    def bury() -> None:
        graves.append(layers.bury(diff_id))

    if not discard(diff_id, bury):
        return False
    for grave in graves:
        if grave:
            shutil.rmtree(grave)
    return True
