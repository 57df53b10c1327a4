"""Pushing an image: its blobs, then its manifest, to a registry.

For each blob, the cheapest way that works:

    HEAD: the repository has it          -> "Layer already exists"
    mount from another repository there  -> "Mounted from library/x"
    upload                               -> "Pushed"

An image that came with a manifest is pushed under that very manifest, so its digest stays the
same everywhere; one that was made here gets a manifest from its layers' compressed forms, the same
one each time.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial

from seom.errors import NotFound, SystemFailure, Unauthorized
from seom.images.auth import ANONYMOUS, Credentials
from seom.images.download import REPORT_INTERVAL_S, pause, short_id
from seom.images.endpoint import RegistrySettings
from seom.images.patience import Patience, patiently
from seom.images.progress import Message, ProgressDetail, PushResult, Report, advance, status, step
from seom.images.registry import RegistryClient, Upload
from seom.images.registry_errors import ConnectionFailed, RegistryRefusal
from seom.images.store import Image, ImageStore, NewImage
from seom.oci.descriptor import Descriptor, digest_of
from seom.oci.manifest import (
    DOCKER_CONFIG,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    LARGEST_MANIFEST_BYTES,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Manifest,
    decode_manifest,
    encode_manifest,
    is_foreign,
)
from seom.oci.reference import Reference, parse_reference
from seom.storage.blobs import CHUNK_BYTES, BlobStore, damaged
from seom.storage.layers import Layer
from seom.storage.leases import Lease, Leases
from seom.storage.streams import GzipCompressor

PARALLEL_UPLOADS = 5


@dataclass(frozen=True, slots=True)
class Pushed:
    """Under which digest the registry now has the image, and the manifest's size in bytes."""

    tag: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class _Parcel:
    """One blob on its way; row is the client's name for it, empty for the configuration."""

    blob: Descriptor
    row: str


@dataclass(frozen=True, slots=True)
class _Order:
    client: RegistryClient
    repository: Reference
    report: Report
    slots: asyncio.Semaphore


class Pusher:
    """Pushes images of one data root."""

    def __init__(
        self, images: ImageStore, blobs: BlobStore, leases: Leases, settings: RegistrySettings
    ) -> None:
        self._images = images
        self._blobs = blobs
        self._leases = leases
        self._settings = settings

    async def push(
        self, reference: Reference, report: Report, credentials: Credentials = ANONYMOUS
    ) -> Pushed:
        """Push the image of a tag.

        Raises NotFound for an unknown tag, Unavailable when the registry is out of reach, and
        SystemFailure with the registry's words when it refuses.
        """
        report(status(f"The push refers to repository [{reference.repository}]"))
        return (await self._push_tags(reference, [reference.tag], report, credentials))[0]

    async def push_all_tags(
        self, repository: Reference, report: Report, credentials: Credentials = ANONYMOUS
    ) -> list[Pushed]:
        """Push every tag that a repository has here."""
        report(status(f"The push refers to repository [{repository.repository}]"))
        tags = self._tags(repository)
        if not tags:
            raise self._no_such_image(repository)
        return await self._push_tags(repository, tags, report, credentials)

    async def _push_tags(
        self, repository: Reference, tags: list[str], report: Report, credentials: Credentials
    ) -> list[Pushed]:
        async with RegistryClient(repository.domain, credentials, self._settings) as client:
            order = _Order(client, repository, report, asyncio.Semaphore(PARALLEL_UPLOADS))
            try:
                await client.base()
                return [await self._push(order, repository.with_tag(tag)) for tag in tags]
            except RegistryRefusal as error:
                raise SystemFailure(str(error)) from error
            except Unauthorized as error:
                # Docker's words alone (without the URL), and not 401: see pull_error.
                raise SystemFailure(str(error.__cause__ or error)) from error

    async def _push(self, order: _Order, reference: Reference) -> Pushed:
        image_id = self._images.find(reference)
        if image_id is None:
            raise self._no_such_image(reference)
        with self._images.hold(image_id), self._leases.lease() as lease:
            image = self._images.get(image_id)
            content, media_type = await self._manifest(image, lease)
            manifest = decode_manifest(content, media_type)
            assert isinstance(manifest, Manifest)
            await self._send_blobs(order, image, manifest)
            put = partial(order.client.put_manifest, reference.path, reference.tag, content, media_type)
            await patiently(self._settings, put)
            pushed = Pushed(reference.tag, digest_of(content), len(content))
            self._images.set_digest(reference.with_digest(pushed.digest), image_id)
        order.report(status(f"{pushed.tag}: digest: {pushed.digest} size: {pushed.size}"))
        result = PushResult(pushed.tag, pushed.digest, pushed.size)
        order.report(Message(progress_detail=ProgressDetail(), aux=result))
        return pushed

    def _tags(self, repository: Reference) -> list[str]:
        names = (name for image in self._images.all() for name in self._images.references(image.id))
        return sorted(name.tag for name in names if name.repository == repository.repository and name.tag)

    def _no_such_image(self, reference: Reference) -> NotFound:
        if self._tags(reference):
            return NotFound(f"tag does not exist: {reference.familiar}")
        return NotFound(f"An image does not exist locally with the tag: {reference.familiar_repository}")

    # The manifest

    async def _manifest(self, image: Image, lease: Lease) -> tuple[bytes, str]:
        """The manifest the image came with, or one made of its layers; and its media type."""
        lease.hold(image.id, image.manifest or image.id, *(layer.blob for layer in image.layers))
        if not self._blobs.exists(image.id):
            await asyncio.to_thread(self._blobs.add, image.config_bytes, image.id)
        if image.manifest and self._blobs.exists(image.manifest):
            content = self._blobs.read(image.manifest, LARGEST_MANIFEST_BYTES)
            manifest = decode_manifest(content)
            if isinstance(manifest, Manifest) and all(
                self._blobs.exists(layer.digest) or is_foreign(layer) for layer in manifest.layers
            ):
                return content, manifest.media_type or OCI_MANIFEST
        layers = [await asyncio.to_thread(self._packed, layer, lease) for layer in image.layers]
        if list(image.layers) != layers:
            self._images.add(NewImage(id=image.id, config_bytes=image.config_bytes, layers=layers))
        document = made_manifest(image, layers)
        return encode_manifest(document), document.media_type

    def _packed(self, layer: Layer, lease: Lease) -> Layer:
        """The layer with a compressed form, made now if it was kept as a plain tar; blocks."""
        if layer.media_type != OCI_LAYER:
            return layer
        compressor = GzipCompressor()
        with self._blobs.writer() as writer:
            for chunk in self._blobs.verified(layer.blob):
                writer.write(compressor.compress(chunk))
            writer.write(compressor.flush())
            lease.hold(writer.digest)
            return replace(layer, blob=writer.commit(), blob_bytes=writer.size, media_type=OCI_LAYER_GZIP)

    # The blobs

    async def _send_blobs(self, order: _Order, image: Image, manifest: Manifest) -> None:
        """The layers, topmost first as docker shows them, and the configuration."""
        rows = [short_id(diff_id) for diff_id in image.diff_ids]
        parcels = {
            layer.digest: _Parcel(layer, row)
            for layer, row in zip(reversed(manifest.layers), reversed(rows), strict=True)
        }
        for parcel in parcels.values():
            order.report(step(parcel.row, "Preparing"))
        try:
            async with asyncio.TaskGroup() as group:
                for parcel in (*parcels.values(), _Parcel(manifest.config, "")):
                    group.create_task(self._send_blob(_with_quiet_rows(order, parcel), parcel))
        except ExceptionGroup as failures:
            first = failures.exceptions[0]
            raise first from first.__cause__

    async def _send_blob(self, order: _Order, parcel: _Parcel) -> None:
        name, digest = order.repository.path, parcel.blob.digest
        if is_foreign(parcel.blob):
            order.report(step(parcel.row, "Skipped foreign layer"))
            return
        if order.slots.locked():
            order.report(step(parcel.row, "Waiting"))
        async with order.slots:
            if await patiently(self._settings, partial(order.client.has_blob, name, digest)):
                order.report(step(parcel.row, "Layer already exists"))
            elif source := await self._mount(order, digest):
                order.report(step(parcel.row, f"Mounted from {source}"))
            else:
                await self._upload(order, parcel)
                order.report(step(parcel.row, "Pushed"))
        self._images.add_source(digest, order.repository.repository)

    async def _mount(self, order: _Order, digest: str) -> str:
        """Take the blob over from a repository of the same registry; its short name, empty if none had it."""
        for source in map(parse_reference, self._images.sources(digest)):
            if source.domain != order.repository.domain or source.path == order.repository.path:
                continue
            try:
                if await order.client.start_upload(order.repository.path, digest, source.path) is None:
                    return source.path
            except RegistryRefusal:
                continue
        return ""

    async def _upload(self, order: _Order, parcel: _Parcel) -> None:
        """Send a blob; what breaks goes on where the registry says it stopped."""
        client, name, size = order.client, order.repository.path, parcel.blob.size
        patience = Patience(self._settings)
        upload: Upload | None = None
        while True:
            before = upload.offset if upload else 0
            try:
                upload = upload or await client.start_upload(name)
                assert upload is not None
                if upload.offset < size:
                    body = partial(self._content_from, order.report, parcel, upload.offset)
                    await client.send(name, upload, body, size - upload.offset)
                return await client.commit(name, upload, parcel.blob.digest)
            except (ConnectionFailed, RegistryRefusal) as error:
                await asyncio.to_thread(self._blame, error, parcel.blob.digest)
                upload = await self._resume(order, upload)
                progressed = upload is not None and upload.offset > before
                delay_s = patience.delay_after(error, progressed)
            await pause(delay_s, parcel.row, order.report)

    def _blame(self, error: Exception, digest: str) -> None:
        """Raise SystemFailure if content was refused because it is damaged here; then it is removed."""
        if not isinstance(error, RegistryRefusal) or error.code != "DIGEST_INVALID":
            return
        try:
            for _ in self._blobs.verified(digest):
                pass
        except SystemFailure:
            self._blobs.remove(digest)
            raise

    async def _resume(self, order: _Order, upload: Upload | None) -> Upload | None:
        """The upload as the registry has it; None when it must begin again."""
        if upload is None:
            return None
        try:
            await order.client.refresh_upload(order.repository.path, upload)
        except (ConnectionFailed, RegistryRefusal):
            return None
        return upload

    async def _content_from(self, report: Report, parcel: _Parcel, offset: int) -> AsyncIterator[bytes]:
        """A blob's bytes from offset on, reporting as they are asked for."""
        size, reported_s = parcel.blob.size, 0.0
        with self._blobs.open(parcel.blob.digest) as file:
            while offset < size:
                wanted = min(CHUNK_BYTES, size - offset)
                chunk = await asyncio.to_thread(os.pread, file.fileno(), wanted, offset)
                if not chunk:
                    self._blobs.remove(parcel.blob.digest)
                    raise damaged(parcel.blob.digest)
                yield chunk
                offset += len(chunk)
                if (now := time.monotonic()) - reported_s >= REPORT_INTERVAL_S:
                    reported_s = now
                    report(advance(parcel.row, "Pushing", offset, size))


def made_manifest(image: Image, layers: list[Layer]) -> Manifest:
    """A manifest for an image that has none.

    In Docker's types, which every client reads, unless a layer is packed in a way only OCI knows.
    """
    docker = all(layer.media_type == OCI_LAYER_GZIP for layer in layers)
    return Manifest(
        schema_version=2,
        media_type=DOCKER_MANIFEST if docker else OCI_MANIFEST,
        config=Descriptor(DOCKER_CONFIG if docker else OCI_CONFIG, image.id, len(image.config_bytes)),
        layers=[
            Descriptor(DOCKER_LAYER_GZIP if docker else layer.media_type, layer.blob, layer.blob_bytes)
            for layer in layers
        ],
    )


def _with_quiet_rows(order: _Order, parcel: _Parcel) -> _Order:
    """The configuration has no row of its own at the client."""
    return order if parcel.row else replace(order, report=lambda message: None)
