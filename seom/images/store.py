"""The image store: which images there are, what they are called and what they are made of.

Rows only, on the event loop's thread; content lies in storage.blobs and storage.layers. An image
is added after its content (under a lease), and removed before it, so that a crash leaves garbage
and never an image with a hole.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from seom.errors import InvalidParameter, NotFound
from seom.images.names import Names
from seom.oci.image_config import ImageConfig, decode_image_config
from seom.oci.reference import Reference, parse_reference
from seom.storage.database import Database
from seom.storage.layers import Layer, LayerStore

_IDENTIFIER = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_PREFIX = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})")


@dataclass(frozen=True, slots=True)
class Image:
    """One image; names are in Docker's short form, layers lowest first, sizes in bytes."""

    id: str
    config: ImageConfig
    config_bytes: bytes
    layers: tuple[Layer, ...]
    repo_tags: list[str]
    repo_digests: list[str]
    created_ns: int
    tagged_ns: int
    parent: str
    manifest: str

    @property
    def diff_ids(self) -> list[str]:
        """The digests of the uncompressed layers, lowest first."""
        return [layer.diff_id for layer in self.layers]

    @property
    def size_bytes(self) -> int:
        """Of all regular files in all layers."""
        return sum(layer.size_bytes for layer in self.layers)


@dataclass(frozen=True, slots=True)
class NewImage:
    """What add() needs to know; everything it names is in the stores already."""

    id: str
    config_bytes: bytes
    layers: Sequence[Layer]
    manifest: str = ""
    index: str = ""
    parent: str = ""


class ImageStore:
    """The images of one data root."""

    def __init__(self, database: Database, layers: LayerStore) -> None:
        self._db = database
        self._layers = layers
        self._names = Names(database)
        self._held: Counter[str] = Counter()
        self._configs: dict[str, ImageConfig] = {}

    # Finding

    def resolve(self, name: str) -> Image:
        """The image of a reference, a digest reference, an id or an unambiguous beginning of an id.

        Raises NotFound (`No such image: x:latest`) and InvalidParameter for a malformed name.
        """
        image_id, _ = self.resolve_id(name)
        return self.get(image_id)

    def resolve_id(self, name: str) -> tuple[str, Reference | None]:
        """The image id that a name means, and the reference if it was found by reference."""
        if exact := _IDENTIFIER.fullmatch(name):
            image_id = f"sha256:{exact[1]}"
            if self._exists(image_id):
                return image_id, None
            raise NotFound(f"No such image: {name}")
        try:
            reference = parse_reference(name).with_default_tag()
        except InvalidParameter:
            if found := self._by_prefix(name):
                return found, None
            raise
        if image_id_or_none := self.find(reference):
            return image_id_or_none, reference
        if found := self._by_prefix(name):
            return found, None
        raise NotFound(f"No such image: {reference.familiar}")

    def find(self, reference: Reference) -> str | None:
        """The id of the image with this tag or digest, if there is one."""
        return self._names.find(reference)

    def get(self, image_id: str) -> Image:
        """The image with exactly this id, even one kept only for its containers; raises NotFound."""
        row = self._db.row("SELECT * FROM image WHERE id=?", image_id)
        if row is None:
            raise NotFound(f"No such image: {image_id}")
        return self._image(row)

    def exists(self, image_id: str) -> bool:
        """Whether an image with exactly this id is listed."""
        return self._exists(image_id)

    def all(self) -> list[Image]:
        """Every listed image, newest first."""
        rows = self._db.rows("SELECT * FROM image WHERE removed=0 ORDER BY created_ns DESC, id")
        known = self.layers()
        diff_ids = self.diff_id_lists()
        names = self._names.by_image()
        return [
            self._assembled(
                row, [known[diff_id] for diff_id in diff_ids.get(row["id"], ())], names.get(row["id"], ())
            )
            for row in rows
        ]

    def diff_id_lists(self) -> dict[str, list[str]]:
        """The layers of every listed image, lowest first, by image id."""
        rows = self._db.rows(
            "SELECT image_id, diff_id FROM image_layer JOIN image ON image.id=image_id"
            " WHERE removed=0 ORDER BY image_id, position"
        )
        found: dict[str, list[str]] = {}
        for row in rows:
            found.setdefault(row[0], []).append(row[1])
        return found

    def layer_paths(self, image: Image) -> list[str]:
        """The unpacked layers for an overlay, topmost first, each at most once.

        A layer that occurs twice counts where it is topmost: the kernel refuses a repeated lower
        layer (ELOOP), and its lower occurrence would be hidden by the upper one, except where a
        layer between them deletes something, which the upper one restores as well.
        """
        topmost_first = dict.fromkeys(reversed(image.diff_ids))
        return [str(self._layers.path(diff_id)) for diff_id in topmost_first]

    def layers(self) -> dict[str, Layer]:
        """What is known of every layer of every image, by diff_id."""
        return {row["diff_id"]: _layer(row) for row in self._db.rows("SELECT * FROM layer")}

    def layer(self, diff_id: str) -> Layer | None:
        """What is known of an unpacked layer, if some image uses it and its files are here."""
        row = self._db.row("SELECT * FROM layer WHERE diff_id=?", diff_id)
        return _layer(row) if row and self._layers.exists(diff_id) else None

    def children(self, image_id: str) -> list[str]:
        """The images made from this one here."""
        rows = self._db.rows("SELECT id FROM image WHERE parent=? AND removed=0", image_id)
        return [row[0] for row in rows]

    def references(self, image_id: str) -> list[Reference]:
        """Every name of an image: tags, then digests."""
        return self._names.of_image(image_id)

    def tags_of_repository(self, name: str) -> list[tuple[Reference, str]]:
        """Every tag of a repository named without tag or digest, with the image id; empty otherwise."""
        return self._names.tags_of_repository(name)

    def tag_history(self, reference: Reference) -> list[tuple[str, int]]:
        """What a tag meant: (image id, since when in ns), oldest first."""
        return self._names.tag_history(reference)

    # Changing

    def add(
        self,
        image: NewImage,
        tags: Sequence[Reference] = (),
        digests: Sequence[Reference] = (),
    ) -> Image:
        """Record an image whose content is stored, with its names, in one durable transaction.

        Names that come with an image do not count as tagged here: the time of the last tag stays.
        Hold a lease on everything it names until this returns. Adding what exists adds the names.
        """
        config = decode_image_config(image.config_bytes)
        blobs = {image.id, image.manifest, image.index, *(layer.blob for layer in image.layers)} - {""}
        with self._db.transaction(durable=True):
            self._db.execute(
                "INSERT INTO image (id, config, created_ns, parent, manifest) VALUES (?,?,?,?,?)"
                " ON CONFLICT (id) DO UPDATE SET removed=0,"
                " manifest=iif(excluded.manifest='', manifest, excluded.manifest)",
                image.id,
                image.config_bytes,
                _nanoseconds(config.created_at),
                image.parent,
                image.manifest,
            )
            for position, layer in enumerate(image.layers):
                self.add_layer(layer)
                self._db.execute(
                    "INSERT OR IGNORE INTO image_layer VALUES (?,?,?)", image.id, position, layer.diff_id
                )
            for digest in blobs:
                self._db.execute("INSERT OR IGNORE INTO image_blob VALUES (?,?)", image.id, digest)
            for reference in tags:
                self._names.set_tag(reference, image.id)
            for reference in digests:
                self._names.set_digest(reference, image.id)
        return self.get(image.id)

    def tag(self, reference: Reference, image_id: str) -> str | None:
        """Let a tag mean this image; returns the id it meant before, if another."""
        with self._db.transaction(durable=True):
            self._db.execute("UPDATE image SET tagged_ns=? WHERE id=?", time.time_ns(), image_id)
            return self._names.set_tag(reference, image_id)

    def set_digest(self, reference: Reference, image_id: str) -> None:
        """Remember by which manifest digest a repository knows this image (after pull and push)."""
        with self._db.transaction(durable=True):
            self._names.set_digest(reference, image_id)

    def untag(self, reference: Reference) -> None:
        """Forget a tag or a digest; nothing happens if it is unknown."""
        self._names.untag(reference)

    def remove(self, image_id: str, keep_for_containers: bool = False) -> None:
        """Forget an image and its names; its files go with the next collection.

        keep_for_containers hides it instead, so that stopped containers can start again.
        """
        with self._db.transaction(durable=True):
            if keep_for_containers:
                self._db.execute("UPDATE image SET removed=1 WHERE id=?", image_id)
                self._names.forget(image_id)
            else:
                self._db.execute("DELETE FROM image WHERE id=?", image_id)
                self.forget_unused_layers()
        self._configs.pop(image_id, None)

    def forget_unused_layers(self) -> None:
        """Forget layers of neither an image nor the build cache; in the caller's transaction."""
        self._db.execute(
            "DELETE FROM layer WHERE diff_id NOT IN (SELECT diff_id FROM image_layer)"
            " AND diff_id NOT IN (SELECT diff_id FROM build_step WHERE diff_id IS NOT NULL)"
        )

    def hidden(self) -> list[str]:
        """Images kept only for their containers."""
        return [row[0] for row in self._db.rows("SELECT id FROM image WHERE removed=1")]

    def is_hidden(self, image_id: str) -> bool:
        """Whether an image is kept only for its containers."""
        return self._db.row("SELECT 1 FROM image WHERE id=? AND removed=1", image_id) is not None

    # Collecting garbage

    def roots(self) -> tuple[set[str], set[str]]:
        """What must stay: (blobs, diff_ids)."""
        blobs = {
            row[0] for row in self._db.rows("SELECT digest FROM image_blob UNION SELECT blob FROM layer")
        }
        return blobs, {row[0] for row in self._db.rows("SELECT diff_id FROM layer")}

    def unsynced(self) -> list[Layer]:
        """Layers whose files are not known to be on disk."""
        return [_layer(row) for row in self._db.rows("SELECT * FROM layer WHERE boot_id!=''")]

    def mark_synced(self, diff_ids: Sequence[str]) -> None:
        """These layers' files are on disk now."""
        with self._db.transaction():
            for diff_id in diff_ids:
                self._db.execute("UPDATE layer SET boot_id='' WHERE diff_id=?", diff_id)

    # Protecting

    @contextmanager
    def hold(self, image_id: str) -> Iterator[None]:
        """Keep an image from being removed, between resolving it and recording who uses it."""
        self._held[image_id] += 1
        try:
            yield
        finally:
            self._held[image_id] -= 1
            if not self._held[image_id]:
                del self._held[image_id]

    def is_held(self, image_id: str) -> bool:
        """Whether somebody is about to use the image."""
        return image_id in self._held

    # Where registries hold blobs

    def add_source(self, digest: str, repository: str) -> None:
        """Remember that a repository (full name) holds a blob."""
        self._db.execute("INSERT OR IGNORE INTO blob_source VALUES (?,?)", digest, repository)

    def forget_sources(self) -> None:
        """Forget where blobs came from that no image needs any more."""
        self._db.execute(
            "DELETE FROM blob_source WHERE digest NOT IN (SELECT digest FROM image_blob)"
            " AND digest NOT IN (SELECT blob FROM layer)"
        )

    def sources(self, digest: str) -> list[str]:
        """The repositories known to hold a blob."""
        return [row[0] for row in self._db.rows("SELECT repository FROM blob_source WHERE digest=?", digest)]

    # Rows

    def _exists(self, image_id: str) -> bool:
        return self._db.row("SELECT 1 FROM image WHERE id=? AND removed=0", image_id) is not None

    def _by_prefix(self, name: str) -> str | None:
        prefix = _PREFIX.fullmatch(name)
        if prefix is None:
            return None
        rows = self._db.rows(
            "SELECT id FROM image WHERE removed=0 AND id>=? AND id<? LIMIT 2",
            f"sha256:{prefix[1]}",
            f"sha256:{prefix[1]}g",
        )
        if len(rows) > 1:
            raise NotFound(
                f"No such image: {name}: the beginning of more than one image id; give more digits"
            )
        return rows[0][0] if rows else None

    def _image(self, row: sqlite3.Row) -> Image:
        image_id: str = row["id"]
        layers = self._db.rows(
            "SELECT layer.* FROM image_layer JOIN layer USING (diff_id) WHERE image_id=? ORDER BY position",
            image_id,
        )
        return self._assembled(row, [_layer(layer) for layer in layers], self.references(image_id))

    def _assembled(self, row: sqlite3.Row, layers: Sequence[Layer], names: Sequence[Reference]) -> Image:
        image_id: str = row["id"]
        config = self._configs.get(image_id)
        if config is None:
            config = self._configs[image_id] = decode_image_config(row["config"])
        return Image(
            id=image_id,
            config=config,
            config_bytes=row["config"],
            layers=tuple(layers),
            repo_tags=[name.familiar for name in names if not name.digest],
            repo_digests=[name.familiar for name in names if name.digest],
            created_ns=row["created_ns"],
            tagged_ns=row["tagged_ns"],
            parent=row["parent"],
            manifest=row["manifest"],
        )

    def add_layer(self, layer: Layer) -> None:
        """Record a layer whose content is stored; in the caller's transaction, which says who uses it."""
        self._db.execute(
            "INSERT INTO layer VALUES (?,?,?,?,?,?,?)"
            " ON CONFLICT (diff_id) DO UPDATE SET boot_id=excluded.boot_id,"
            " blob=excluded.blob, blob_bytes=excluded.blob_bytes, media_type=excluded.media_type",
            layer.diff_id,
            layer.size_bytes,
            layer.tar_bytes,
            layer.blob,
            layer.blob_bytes,
            layer.media_type,
            layer.boot_id,
        )


def _layer(row: sqlite3.Row) -> Layer:
    return Layer(
        diff_id=row["diff_id"],
        size_bytes=row["size_bytes"],
        tar_bytes=row["tar_bytes"],
        blob=row["blob"],
        blob_bytes=row["blob_bytes"],
        media_type=row["media_type"],
        boot_id=row["boot_id"],
    )


def _nanoseconds(moment: datetime | None) -> int:
    """Since the epoch; 0 for no moment, and for one that 64 bits cannot hold (Go's zero time, year 1)."""
    if moment is None:
        return 0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if not 1700 < moment.year < 2250:
        return 0
    whole = int(moment.replace(microsecond=0).timestamp())
    return whole * 1_000_000_000 + moment.microsecond * 1000
