"""New images from a file system (import) or from a container's changes (commit)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from seom.images.store import Image, NewImage
from seom.oci.descriptor import Platform, digest_of
from seom.oci.image_config import ExecutionConfig, History, ImageConfig, RootFs, encode_image_config
from seom.storage.blobs import BlobStore, Readable
from seom.storage.layers import Layer, LayerStore
from seom.storage.leases import Lease
from seom.storage.pack import TarWriter

_BATCH_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class CommitSource:
    """The container to commit: its upper directory, its configuration, and its image.

    skip holds paths, relative to the root, that are no part of the change (mount points).
    """

    upper: Path
    config: ExecutionConfig
    parent: Image
    skip: Collection[bytes] = field(default_factory=frozenset)


class ImageMaker:
    """Makes images in one data root. Blocks; the lease holds what is made until its rows are there."""

    def __init__(self, blobs: BlobStore, layers: LayerStore, lease: Lease) -> None:
        self._blobs = blobs
        self._layers = layers
        self._lease = lease

    def import_rootfs(
        self, source: Readable, config: ExecutionConfig, platform: Platform, message: str
    ) -> NewImage:
        """An image of one layer from the tar of a file system, plain or compressed."""
        layer = self._layers.add(source, lease=self._lease)
        created = now()
        document = ImageConfig(
            architecture=platform.architecture,
            os=platform.os,
            variant=platform.variant,
            created=created,
            config=config,
            rootfs=RootFs(diff_ids=[layer.diff_id]),
            history=[History(created=created, comment=message)],
            comment=message,
        )
        return self._record(document, [layer])

    def commit(self, source: CommitSource, config: ExecutionConfig, author: str, message: str) -> NewImage:
        """The parent image with the container's changes as a further layer, if there are any."""
        parent = source.parent
        layer = self._pack(source)
        created = now()
        step = History(
            created=created,
            created_by=" ".join(_words(source.config.cmd)),
            author=author,
            comment=message,
            empty_layer=layer is None,
        )
        layers = [*parent.layers, *([layer] if layer else [])]
        document = ImageConfig(
            architecture=parent.config.architecture,
            os=parent.config.os,
            variant=parent.config.variant,
            os_version=parent.config.os_version,
            os_features=parent.config.os_features,
            created=created,
            author=author,
            comment=message,
            config=config,
            rootfs=RootFs(diff_ids=[layer.diff_id for layer in layers]),
            history=[*(parent.config.history or []), step],
        )
        return self._record(document, layers, parent.id)

    def _pack(self, source: CommitSource) -> Layer | None:
        """The upper directory as a layer; None when nothing was changed."""
        directory = os.open(source.upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with self._layers.writer(lease=self._lease) as writer:
                batched = _Batched(writer.write)
                tar = TarWriter(batched.write, overlay=True, skip=source.skip)
                tar.add_content(directory)
                if batched.is_empty:
                    return None
                tar.finish()
                batched.flush()
                return writer.commit()
        finally:
            os.close(directory)

    def _record(self, document: ImageConfig, layers: list[Layer], parent: str = "") -> NewImage:
        content = encode_image_config(document)
        image_id = digest_of(content)
        self._lease.hold(image_id)
        self._blobs.add(content, image_id)
        return NewImage(image_id, content, layers, parent=parent)


class _Batched:
    """Joins small pieces to large ones, and knows whether there were any."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._pieces: list[bytes] = []
        self._size = 0
        self.is_empty = True

    def write(self, piece: bytes) -> None:
        """Take a piece."""
        self.is_empty = False
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size >= _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Pass on what waits."""
        self._write(b"".join(self._pieces))
        self._pieces, self._size = [], 0


def now() -> str:
    """The present moment in RFC 3339 with nanoseconds."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


def merged(wanted: ExecutionConfig | None, container: ExecutionConfig) -> ExecutionConfig:
    """A commit's configuration: the container's, where the request does not say otherwise."""
    document = msgspec.to_builtins(container)
    if wanted:
        document |= msgspec.to_builtins(wanted)
        for key in ("Env", "Labels", "ExposedPorts", "Volumes"):
            document |= _both(key, wanted, container)
    # What belongs to the container itself is no default for others.
    for key in ("Hostname", "Domainname", "Image", "MacAddress", "Tty", "OpenStdin", "StdinOnce"):
        document.pop(key, None)
    for key in ("AttachStdin", "AttachStdout", "AttachStderr", "NetworkDisabled"):
        document.pop(key, None)
    return msgspec.convert({key: value for key, value in document.items() if value != {}}, ExecutionConfig)


def _both(key: str, wanted: ExecutionConfig, container: ExecutionConfig) -> dict[str, object]:
    first = msgspec.to_builtins(container).get(key)
    second = msgspec.to_builtins(wanted).get(key)
    if not first or not second:
        return {}
    if isinstance(first, dict):
        return {key: first | second}
    variables = {entry.partition("=")[0]: entry for entry in first + second}
    return {key: list(variables.values())}


def _words(command: list[str] | str | None) -> list[str]:
    if command is None:
        return []
    return [command] if isinstance(command, str) else command
