"""Write images as one archive that docker, podman, skopeo and containerd read.

    blobs/sha256/HEX    configurations, OCI manifests, and each layer once, as a plain tar
    index.json          OCI: one manifest entry for each name
    manifest.json       docker: configuration, names and layers of each image
    oci-layout
    repositories        docker's oldest form of the names

Layers are stored compressed and inflated here, so their digests are the diff_ids.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from seom.images.loading import IMAGE_NAME, REF_NAME
from seom.images.store import Image
from seom.oci.descriptor import Descriptor, digest_of
from seom.oci.manifest import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Index, Manifest, encode_manifest
from seom.oci.reference import Reference
from seom.storage.blobs import BlobStore, damaged
from seom.storage.layers import Layer
from seom.storage.pack import encode_header
from seom.storage.streams import decompressed
from seom.storage.tar_headers import BLOCK, DIRECTORY, REGULAR

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'

Write = Callable[[bytes], object]


@dataclass(slots=True)
class SavedImage:
    """An image to be saved, and the tags that go with it."""

    image: Image
    tags: list[Reference] = field(default_factory=list)


class _ManifestItem(msgspec.Struct, rename="pascal"):
    config: str
    repo_tags: list[str] | None
    layers: list[str]
    layer_sources: dict[str, Descriptor]


def save(images: Sequence[SavedImage], blobs: BlobStore, write: Write) -> None:
    """Write the archive; blocks. Raises SystemFailure for a damaged blob, and what write raises."""
    documents, index, items = _describe(images)
    layers = {layer.diff_id: layer for saved in images for layer in saved.image.layers}
    write(_folder(b"blobs/") + _folder(b"blobs/sha256/"))
    for digest in sorted(documents.keys() | layers.keys()):
        if digest in documents:
            _file(_path(digest), documents[digest], write)
        else:
            _layer(layers[digest], blobs, write)
    _file("index.json", encode_manifest(index), write)
    _file("manifest.json", msgspec.json.encode(items), write)
    _file("oci-layout", _LAYOUT, write)
    if repositories := _repositories(images):
        _file("repositories", msgspec.json.encode(repositories), write)
    write(bytes(2 * BLOCK))


def _describe(
    images: Sequence[SavedImage],
) -> tuple[dict[str, bytes], Index, list[_ManifestItem]]:
    """The documents by digest, the OCI index and docker's manifest.json."""
    documents: dict[str, bytes] = {}
    index = Index([], media_type=OCI_INDEX)
    items = []
    for saved in images:
        image = saved.image
        layers = [Descriptor(OCI_LAYER, layer.diff_id, layer.tar_bytes) for layer in image.layers]
        manifest = encode_manifest(
            Manifest(Descriptor(OCI_CONFIG, image.id, len(image.config_bytes)), layers)
        )
        documents[image.id] = image.config_bytes
        documents[digest_of(manifest)] = manifest
        index.manifests += _index_entries(saved, manifest)
        items.append(
            _ManifestItem(
                config=_path(image.id),
                repo_tags=[tag.familiar for tag in saved.tags] or None,
                layers=[_path(layer.digest) for layer in layers],
                layer_sources={layer.digest: layer for layer in layers},
            )
        )
    return documents, index, items


def _index_entries(saved: SavedImage, manifest: bytes) -> Iterator[Descriptor]:
    platform = saved.image.config.platform
    names: list[dict[str, str] | None] = [{IMAGE_NAME: str(tag), REF_NAME: tag.tag} for tag in saved.tags]
    for name in names or [None]:
        yield Descriptor(
            OCI_MANIFEST, digest_of(manifest), len(manifest), annotations=name, platform=platform
        )


def _repositories(images: Sequence[SavedImage]) -> dict[str, dict[str, str]]:
    repositories: dict[str, dict[str, str]] = {}
    for saved in images:
        for tag in saved.tags:
            top = saved.image.diff_ids[-1] if saved.image.layers else saved.image.id
            repositories.setdefault(tag.familiar_repository, {})[tag.tag] = top.partition(":")[2]
    return repositories


def _layer(layer: Layer, blobs: BlobStore, write: Write) -> None:
    write(_header(_path(layer.diff_id), layer.tar_bytes))
    left = layer.tar_bytes
    with blobs.open(layer.blob) as file:
        _, plain = decompressed(file)
        while chunk := plain.read(1 << 20):
            left -= len(chunk)
            write(chunk)
    if left:
        raise damaged(layer.blob)
    write(bytes(-layer.tar_bytes % BLOCK))


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _file(path: str, content: bytes, write: Write) -> None:
    write(_header(path, len(content)) + content + bytes(-len(content) % BLOCK))


def _header(path: str, size: int) -> bytes:
    return encode_header(path.encode(), _status(0o644), REGULAR, size, b"", (0, 0), {})


def _folder(path: bytes) -> bytes:
    return encode_header(path, _status(0o755), DIRECTORY, 0, b"", (0, 0), {})


def _status(mode: int) -> os.stat_result:
    """Of a file that root made at the epoch."""
    return os.stat_result((mode, 0, 0, 1, 0, 0, 0, 0, 0, 0))
