"""Read image archives: docker-archive (of every age), OCI layout, and both in one, in one pass.

    a tar, plain or compressed (gzip, zstd, xz, bzip2):
        manifest.json                       docker: configuration, names and layers of each image
        index.json, oci-layout              OCI: manifests by digest
        blobs/sha256/HEX                    OCI, and docker since 25: everything
        HEX.json, HEX/layer.tar, HEX.tar    docker before 25, skopeo, podman

What the archive means is known only at its end, so layers are unpacked as they come, recognised
by their first bytes, and documents are remembered. What no image turns out to need is garbage.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from seom.errors import InvalidParameter, NotFound
from seom.images.progress import Report, advance
from seom.images.store import NewImage
from seom.oci.descriptor import DIGEST, Platform, digest_of, host_platform
from seom.oci.image_config import LARGEST_CONFIG_BYTES, decode_image_config
from seom.oci.manifest import (
    IMAGE_CONFIGS,
    LARGEST_MANIFEST_BYTES,
    Index,
    Manifest,
    choose_platform,
    decode_manifest,
    is_attestation,
)
from seom.oci.reference import Reference, parse_reference
from seom.storage.blobs import BlobStore, DigestMismatch, Readable
from seom.storage.layers import Layer, LayerStore
from seom.storage.leases import Lease
from seom.storage.streams import PLAIN, Peekable, compression_of, decompressed
from seom.storage.tar_headers import (
    BLOCK,
    HARD_LINK,
    REGULAR,
    SYMBOLIC_LINK,
    Entry,
    TarStream,
    looks_like_tar,
    read_entries,
)

IMAGE_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"
_MOST_DOCUMENT_BYTES = 64 << 20
_DEEPEST_INDEX = 4
_CHUNK_BYTES = 1 << 20
_REPORT_BYTES = 4 << 20


class DockerManifest(msgspec.Struct, rename="pascal"):
    """One image in manifest.json; paths are within the archive."""

    config: str
    layers: list[str] | None = None
    repo_tags: list[str] | None = None


@dataclass(slots=True)
class LoadedImage:
    """An image whose content is in the stores, and the names that the archive gives it."""

    image: NewImage
    tags: list[Reference] = field(default_factory=list)


class ArchiveLoader:
    """Loads one archive. Blocks; runs in a thread.

    known are the layers of existing images: their content is verified but not stored again.
    Everything stored is held by the lease, which must outlive the rows made from the result.
    """

    def __init__(
        self,
        blobs: BlobStore,
        layers: LayerStore,
        known: Mapping[str, Layer],
        lease: Lease,
        report: Report | None = None,
        platform: Platform | None = None,
    ) -> None:
        self._blobs = blobs
        self._layer_store = layers
        self._known = known
        self._lease = lease
        self._report = report
        self._platform = platform or host_platform()
        self._documents: dict[str, bytes] = {}
        self._document_bytes = 0
        self._layers: dict[str, Layer] = {}
        self._links: dict[str, str] = {}

    def load(self, source: Readable) -> list[LoadedImage]:
        """Read the archive to its end.

        Raises InvalidParameter for what is no image archive, or a damaged or malicious one,
        NotFound when it holds nothing for the platform, OSError for the disk's failures.
        """
        _, plain = decompressed(source)
        stream = TarStream(plain)
        for entry in read_entries(stream):
            self._take(entry, stream)
        stream.drain()
        if "manifest.json" in self._documents:
            return self._from_docker_manifest()
        if "index.json" in self._documents:
            return self._from_index()
        raise InvalidParameter(
            "invalid archive: does not contain a manifest.json; if it is a file system, import it instead"
        )

    # Receiving

    def _take(self, entry: Entry, stream: TarStream) -> None:
        path = _clean(entry.name)
        if entry.type in {SYMBOLIC_LINK, HARD_LINK}:
            base = posixpath.dirname(path) if entry.type == SYMBOLIC_LINK else ""
            self._links[path] = _clean(entry.link_name, base)
        elif entry.type == REGULAR and entry.sparse is None and entry.stored:
            content = Peekable(_Content(stream, entry.stored))
            head = content.peek(BLOCK)
            if compression_of(head) != PLAIN or looks_like_tar(head):
                self._take_layer(path, content, entry.stored)
            elif entry.stored <= LARGEST_CONFIG_BYTES:
                self._take_document(path, content, entry.stored)

    def _take_document(self, path: str, content: Readable, size: int) -> None:
        self._document_bytes += size
        if self._document_bytes > _MOST_DOCUMENT_BYTES:
            raise InvalidParameter("invalid archive: its documents are too large for image metadata")
        document = _read_all(content)
        digest = _digest_of_path(path)
        if digest and digest_of(document, digest.partition(":")[0]) != digest:
            raise DigestMismatch(f"invalid archive: the content of {path} does not have that digest")
        self._documents[path] = document

    def _take_layer(self, path: str, content: Peekable, size: int) -> None:
        digest = _digest_of_path(path)
        is_plain = compression_of(content.peek(BLOCK)) == PLAIN
        if digest:
            self._lease.hold(digest)
        if is_plain and digest and (layer := self._known_layer(digest)):
            _verify(content, digest)
        else:
            reader = self._reporting(content, digest or path, size)
            diff_id, blob = (digest, "") if is_plain else ("", digest)
            layer = self._layer_store.add(reader, diff_id, blob, self._lease)
        self._layers[path] = layer

    def _known_layer(self, diff_id: str) -> Layer | None:
        """A layer that needs no unpacking: its files are here, and its blob is whole."""
        layer = self._known.get(diff_id)
        if layer is None or layer.boot_id not in {"", self._layer_store.boot_id}:
            return None
        self._lease.hold(layer.blob)
        has_blob = self._blobs.exists(layer.blob) and self._blobs.size(layer.blob) == layer.blob_bytes
        return layer if has_blob and self._layer_store.exists(diff_id) else None

    def _reporting(self, content: Readable, name: str, size: int) -> Readable:
        if self._report is None:
            return content
        shown = name.removeprefix("sha256:")[:12]
        return _Reporting(content, size, self._report, shown)

    # Understanding

    def _from_docker_manifest(self) -> list[LoadedImage]:
        try:
            manifests = msgspec.json.decode(self._documents["manifest.json"], type=list[DockerManifest])
        except msgspec.DecodeError as error:
            raise InvalidParameter(f"invalid manifest.json: {error}") from error
        loaded = []
        for manifest in manifests:
            config = self._document(manifest.config)
            layers = [self._layer(path) for path in manifest.layers or []]
            tags = [_tag(name) for name in manifest.repo_tags or []]
            loaded.append(LoadedImage(self._image(config, layers), tags))
        return loaded

    def _from_index(self) -> list[LoadedImage]:
        index = decode_manifest(self._documents["index.json"])
        if not isinstance(index, Index):
            raise InvalidParameter("invalid index.json: it is no image index")
        images: dict[str, LoadedImage] = {}
        unsuitable: NotFound | None = None
        for entry in index.manifests:
            if is_attestation(entry):
                continue
            try:
                image = self._from_manifest(entry.digest)
            except NotFound as error:
                unsuitable = error
                continue
            loaded = images.setdefault(image.id, LoadedImage(image))
            loaded.tags += _names(entry.annotations or {})
        if not images and unsuitable:
            raise unsuitable
        return list(images.values())

    def _from_manifest(self, digest: str, top: str = "", depth: int = 0) -> NewImage:
        """The image of a manifest or, for this platform, of an index."""
        content = self._blob(digest, LARGEST_MANIFEST_BYTES)
        document = decode_manifest(content)
        self._keep(content, digest)
        if isinstance(document, Index):
            if depth >= _DEEPEST_INDEX:
                raise InvalidParameter("invalid archive: its indexes are nested too deeply")
            chosen = choose_platform(document, self._platform)
            return self._from_manifest(chosen.digest, top or digest, depth + 1)
        _check_is_image(document)
        config = self._blob(document.config.digest, LARGEST_CONFIG_BYTES)
        layers = [self._layer(_path_of_digest(layer.digest)) for layer in document.layers]
        return self._image(config, layers, digest, top)

    def _image(
        self, config_bytes: bytes, layers: Sequence[Layer], manifest: str = "", index: str = ""
    ) -> NewImage:
        diff_ids = decode_image_config(config_bytes).rootfs.diff_ids
        if len(diff_ids) != len(layers):
            raise InvalidParameter(
                f"invalid manifest, layers length mismatch: expected {len(diff_ids)}, got {len(layers)}"
            )
        for number, (diff_id, layer) in enumerate(zip(diff_ids, layers, strict=True)):
            if layer.diff_id != diff_id:
                raise InvalidParameter(
                    f'invalid diffID for layer {number}: expected "{diff_id}", got "{layer.diff_id}"'
                )
        image_id = digest_of(config_bytes)
        self._keep(config_bytes, image_id)
        return NewImage(image_id, config_bytes, layers, manifest, index)

    def _keep(self, content: bytes, digest: str) -> None:
        self._lease.hold(digest)
        if not self._blobs.exists(digest) or self._blobs.size(digest) != len(content):
            self._blobs.add(content, digest)

    # Finding things in the archive

    def _resolved(self, path: str, present: Callable[[str], bool]) -> str:
        path = _clean(path.encode())
        for _ in range(8):
            if present(path):
                return path
            if path not in self._links:
                break
            path = self._links[path]
        raise InvalidParameter(f"invalid archive: {path} is missing")

    def _document(self, path: str) -> bytes:
        return self._documents[self._resolved(path, self._documents.__contains__)]

    def _layer(self, path: str) -> Layer:
        return self._layers[self._resolved(path, self._layers.__contains__)]

    def _blob(self, digest: str, limit_bytes: int) -> bytes:
        content = self._document(_path_of_digest(digest))
        if len(content) > limit_bytes:
            raise InvalidParameter(f"invalid archive: {digest} is too large for its kind")
        return content


class _Content:
    """The content of one archive member as a file."""

    def __init__(self, stream: TarStream, size: int) -> None:
        self._stream = stream
        self._left = size

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, at most size; empty at the member's end."""
        if not self._left:
            return b""
        piece = bytes(self._stream.next(self._left if size < 0 else min(size, self._left)))
        if not piece and size:
            raise InvalidParameter("the tar archive ends in the middle of a file")
        self._left -= len(piece)
        return piece


class _Reporting:
    """A reader that tells how far it is, every few megabytes."""

    def __init__(self, source: Readable, total: int, report: Report, name: str) -> None:
        self._source = source
        self._total = total
        self._report = report
        self._name = name
        self._done = 0
        self._told = 0

    def read(self, size: int = -1, /) -> bytes:
        """As the source."""
        chunk = self._source.read(size)
        self._done += len(chunk)
        if self._done - self._told >= _REPORT_BYTES or (not chunk and self._told < self._done):
            self._told = self._done
            self._report(advance(self._name, "Loading layer", self._done, self._total))
        return chunk


def _clean(name: str | bytes, base: str = "") -> str:
    text = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
    return posixpath.normpath(posixpath.join("/", base, text)).lstrip("/")


def _digest_of_path(path: str) -> str:
    parts = path.split("/")
    digest = ":".join(parts[1:])
    return digest if parts[0] == "blobs" and DIGEST.fullmatch(digest) else ""


def _path_of_digest(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _read_all(content: Readable) -> bytes:
    parts = []
    while chunk := content.read(_CHUNK_BYTES):
        parts.append(chunk)
    return b"".join(parts)


def _verify(content: Readable, digest: str) -> None:
    hasher = hashlib.new(digest.partition(":")[0])
    while chunk := content.read(_CHUNK_BYTES):
        hasher.update(chunk)
    if hasher.hexdigest() != digest.partition(":")[2]:
        raise DigestMismatch(f"invalid archive: the content of {digest} does not have that digest")


def _tag(name: str) -> Reference:
    reference = parse_reference(name)
    if not reference.tag:
        raise InvalidParameter(f'invalid tag "{name}"')
    return reference


def _names(annotations: Mapping[str, str]) -> list[Reference]:
    """The names of an index entry: a full one, or what looks like one where a tag is usual."""
    name = annotations.get(IMAGE_NAME) or annotations.get(REF_NAME, "")
    if not name or (IMAGE_NAME not in annotations and not set(name) & set(":/")):
        return []
    try:
        reference = parse_reference(name).with_default_tag()
    except InvalidParameter:
        return []
    return [reference] if reference.tag else []


def _check_is_image(manifest: Manifest) -> None:
    if manifest.config.media_type not in IMAGE_CONFIGS:
        raise InvalidParameter(f"the manifest is of a {manifest.config.media_type}, not of an image")
