"""Pulling an image: manifest, configuration and layers from a registry into the stores.

    manifest (or index, then the manifest of the wanted platform)
      -> configuration: names the layers by the digest of their content
      -> layers, three at a time: those that are here already are not fetched
      -> rows of the image and its names, committed last

A lease holds every digest from before it is looked for until the rows are there, so garbage
collection never takes what a pull relies on. A pull that fails leaves no name behind.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

from seom.errors import InvalidParameter, NotFound, SeomError, SystemFailure, Unauthorized
from seom.images.auth import ANONYMOUS, Credentials
from seom.images.download import Downloader, SharedWork, short_id
from seom.images.endpoint import RegistrySettings
from seom.images.patience import patiently
from seom.images.progress import Message, Report, advance, status, step
from seom.images.registry import FetchedManifest, RegistryClient
from seom.images.registry_errors import RegistryRefusal
from seom.images.store import Image, ImageStore, NewImage
from seom.oci.descriptor import Descriptor, Platform, host_platform, matches
from seom.oci.image_config import LARGEST_CONFIG_BYTES, ImageConfig, decode_image_config
from seom.oci.manifest import IMAGE_CONFIGS, Manifest, choose_platform, decode_manifest
from seom.oci.reference import Reference
from seom.storage.blobs import BlobStore
from seom.storage.layers import Layer, LayerStore
from seom.storage.leases import Lease, Leases


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull brought: the image, the digest it was served under, and whether the name changed."""

    image: Image
    digest: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class _Order:
    """One pull: whom to ask, what for, and whom to tell."""

    client: RegistryClient
    reference: Reference
    platform: Platform | None
    report: Report
    lease: Lease


class Puller:
    """Pulls images for one data root."""

    def __init__(
        self,
        images: ImageStore,
        blobs: BlobStore,
        layers: LayerStore,
        leases: Leases,
        settings: RegistrySettings,
    ) -> None:
        self._images = images
        self._blobs = blobs
        self._layers = layers
        self._leases = leases
        self._settings = settings
        self._downloader = Downloader()
        self._layer_work: SharedWork[Layer] = SharedWork()

    def close(self) -> None:
        """Let the download threads end."""
        self._downloader.close()

    async def pull(
        self,
        reference: Reference,
        report: Report,
        platform: Platform | None = None,
        credentials: Credentials = ANONYMOUS,
    ) -> Pulled:
        """Pull one image by tag or digest and report every step.

        Raises NotFound with Docker's texts for an unknown or forbidden image, Unavailable when
        the registry is out of reach, InvalidParameter for content that is not what it claims.
        """
        reference = reference.with_default_tag()
        async with RegistryClient(reference.domain, credentials, self._settings) as client:
            pulled = await self._pull(client, reference, platform, report)
        report(outcome(pulled.is_new, reference))
        actual = pulled.image.config.platform
        if platform is not None and not matches(actual, platform):
            report(
                status(
                    f"WARNING: image with reference {reference.familiar} was found but its platform "
                    f"({actual}) does not match the specified platform ({platform})"
                )
            )
        return pulled

    async def pull_all_tags(
        self,
        repository: Reference,
        report: Report,
        platform: Platform | None = None,
        credentials: Credentials = ANONYMOUS,
    ) -> list[Pulled]:
        """Pull every tag of a repository, one after another."""
        async with RegistryClient(repository.domain, credentials, self._settings) as client:
            try:
                tags = await client.tags(repository.path)
            except (RegistryRefusal, Unauthorized) as error:
                raise pull_error(error, repository) from error
            if not tags:
                raise NotFound(f"no tags found in {repository.familiar_repository}")
            pulled = [await self._pull(client, repository.with_tag(tag), platform, report) for tag in tags]
        report(outcome(any(each.is_new for each in pulled), repository))
        return pulled

    async def _pull(
        self, client: RegistryClient, reference: Reference, platform: Platform | None, report: Report
    ) -> Pulled:
        try:
            await client.base()
            top = await self._fetch_manifest(client, reference.path, reference.digest or reference.tag)
            row = reference.familiar if reference.digest else reference.tag
            report(status(f"Pulling from {reference.path}", row))
            with self._leases.lease() as lease:
                image = await self._content(_Order(client, reference, platform, report, lease), top)
                pulled = Pulled(image, top.digest, self._images.find(reference) != image.id)
                self._name(pulled, reference)
        except (RegistryRefusal, Unauthorized) as error:
            raise pull_error(error, reference) from error
        report(status(f"Digest: {top.digest}"))
        return pulled

    def _name(self, pulled: Pulled, reference: Reference) -> None:
        if not reference.digest:
            self._images.tag(reference, pulled.image.id)
        self._images.set_digest(reference.with_digest(pulled.digest), pulled.image.id)

    async def _content(self, order: _Order, top: FetchedManifest) -> Image:
        """Bring everything the manifest needs into the stores and record the image, without names."""
        fetched, manifest = await self._choose(order, top)
        image_id = manifest.config.digest
        order.lease.hold(top.digest, fetched.digest, image_id, *(layer.digest for layer in manifest.layers))
        known = self._images.get(image_id) if self._images.exists(image_id) else None
        if known is not None and self._is_whole(known):
            if known.manifest == fetched.digest or not self._are_here(manifest.layers):
                return known
            config_bytes, layers = known.config_bytes, list(known.layers)
        else:
            config_bytes = await self._config(order, manifest.config)
            layers = await self._fetch_layers(order, manifest, decode_image_config(config_bytes))
        await self._store(top)
        await self._store(fetched)
        for layer in layers:
            self._images.add_source(layer.blob, order.reference.repository)
        index = top.digest if top is not fetched else ""
        return self._images.add(NewImage(image_id, config_bytes, layers, fetched.digest, index))

    async def _choose(self, order: _Order, top: FetchedManifest) -> tuple[FetchedManifest, Manifest]:
        """The manifest itself, or the one that an index has for the platform."""
        name = order.reference.familiar
        fetched, document = top, decode_manifest(top.content, top.media_type)
        if not isinstance(document, Manifest):
            chosen = choose_platform(document, order.platform or host_platform())
            fetched = await self._fetch_manifest(order.client, order.reference.path, chosen.digest)
            document = decode_manifest(fetched.content, fetched.media_type)
        if not isinstance(document, Manifest):
            raise InvalidParameter(f"the index of {name} contains another index: {fetched.digest}")
        if document.config.media_type not in IMAGE_CONFIGS:
            kind = document.artifact_type or document.config.media_type
            raise InvalidParameter(f'{name} is not a container image: its content is of the type "{kind}"')
        return fetched, document

    async def _fetch_manifest(self, client: RegistryClient, name: str, reference: str) -> FetchedManifest:
        return await patiently(self._settings, partial(client.fetch_manifest, name, reference))

    def _are_here(self, blobs: list[Descriptor]) -> bool:
        return all(self._blobs.exists(blob.digest) for blob in blobs)

    def _is_whole(self, image: Image) -> bool:
        return all(self._present(layer.diff_id) is not None for layer in image.layers)

    def _present(self, diff_id: str) -> Layer | None:
        """A layer whose files and compressed form are both here."""
        layer = self._images.layer(diff_id)
        if layer is None:
            return None
        try:
            return layer if self._blobs.size(layer.blob) == layer.blob_bytes else None
        except NotFound:
            return None

    async def _store(self, manifest: FetchedManifest) -> None:
        if not self._blobs.exists(manifest.digest):
            await self._downloader.in_thread(self._blobs.add, manifest.content, manifest.digest)

    async def _config(self, order: _Order, config: Descriptor) -> bytes:
        """The image's configuration, from the store or the registry."""
        if config.size > LARGEST_CONFIG_BYTES:
            raise InvalidParameter(
                f"the configuration of {order.reference.familiar} is too large: {config.size} bytes"
            )
        if self._blobs.exists(config.digest):
            try:
                return self._blobs.read(config.digest, LARGEST_CONFIG_BYTES)
            except SystemFailure:
                self._blobs.remove(config.digest)
        with self._blobs.writer(config.digest, config.size) as writer:
            await self._downloader.download(order.client, order.reference.path, config, writer, _silent)
            await self._downloader.in_thread(writer.commit)
        return self._blobs.read(config.digest, LARGEST_CONFIG_BYTES)

    async def _fetch_layers(self, order: _Order, manifest: Manifest, config: ImageConfig) -> list[Layer]:
        """Every layer of the image, lowest first, those that are missing fetched in parallel."""
        diff_ids = config.rootfs.diff_ids
        if len(diff_ids) != len(manifest.layers):
            raise InvalidParameter(
                f"the manifest of {order.reference.familiar} lists {len(manifest.layers)} layers, its "
                f"configuration {len(diff_ids)}"
            )
        order.lease.hold(*diff_ids)
        layers: dict[str, Layer] = {}
        missing: dict[str, Descriptor] = {}
        for diff_id, blob in zip(diff_ids, manifest.layers, strict=True):
            if layer := self._present(diff_id):
                layers[diff_id] = layer
                order.lease.hold(layer.blob)
            else:
                missing[diff_id] = blob
            order.report(step(short_id(blob.digest), "Already exists" if layer else "Pulling fs layer"))
        tasks: dict[str, asyncio.Task[Layer]] = {}
        try:
            async with asyncio.TaskGroup() as group:
                for diff_id, blob in missing.items():
                    tasks[diff_id] = group.create_task(self._fetch_layer(order, diff_id, blob))
        except ExceptionGroup as failures:
            first = failures.exceptions[0]
            raise first from first.__cause__
        layers |= {diff_id: task.result() for diff_id, task in tasks.items()}
        return [layers[diff_id] for diff_id in diff_ids]

    async def _fetch_layer(self, order: _Order, diff_id: str, blob: Descriptor) -> Layer:
        """One layer, unpacked; by another pull if that is at it already."""

        async def work(report: Report) -> Layer:
            if self._blobs.exists(blob.digest):
                try:
                    return await self._unpack(diff_id, blob, report)
                except SystemFailure:
                    self._blobs.remove(blob.digest)
            return await self._download(order, diff_id, blob, report)

        return await self._layer_work.run(f"{diff_id} {blob.digest}", order.report, work)

    async def _download(self, order: _Order, diff_id: str, blob: Descriptor, report: Report) -> Layer:
        """One layer from the registry, unpacked while it arrives."""
        id = short_id(blob.digest)
        async with self._downloader.slot(lambda: report(step(id, "Waiting"))):
            writer = self._layers.writer(diff_id, blob.digest, blob.size)
            try:
                await self._downloader.download(order.client, order.reference.path, blob, writer, report)
                report(step(id, "Verifying Checksum"))
                layer = await self._downloader.in_thread(writer.commit)
            finally:
                await self._downloader.in_thread(writer.discard)
        report(step(id, "Download complete"))
        report(advance(id, "Extracting", blob.size, blob.size))
        report(step(id, "Pull complete"))
        return layer

    async def _unpack(self, diff_id: str, blob: Descriptor, report: Report) -> Layer:
        """A layer whose blob is here, but not its files; raises SystemFailure for a damaged blob."""
        loop = asyncio.get_running_loop()
        id = short_id(blob.digest)
        read = 0

        def count(size: int) -> None:
            nonlocal read
            read += size
            loop.call_soon_threadsafe(report, advance(id, "Extracting", read, blob.size))

        layer = await self._downloader.in_thread(self._layers.unpack_blob, blob.digest, diff_id, count)
        report(step(id, "Pull complete"))
        return layer


def outcome(is_new: bool, reference: Reference) -> Message:
    """The line with which docker ends a pull that succeeded."""
    text = "Downloaded newer image" if is_new else "Image is up to date"
    return status(f"Status: {text} for {reference.familiar}")


def pull_error(error: SeomError, reference: Reference) -> SeomError:
    """A registry's refusal in the words that docker's users know."""
    code = error.code if isinstance(error, RegistryRefusal) else ""
    if code == "DENIED":
        return NotFound(
            f"pull access denied for {reference.familiar_repository}, repository does not exist or may "
            f"require 'docker login': {error}"
        )
    if code == "MANIFEST_UNKNOWN":
        return NotFound(f"manifest for {reference.familiar} not found: {error}")
    if code == "NAME_UNKNOWN":
        return NotFound(f"repository {reference.familiar_repository} not found: {error}")
    # Not 401: the docker command line would then ask for a password on the terminal.
    return SystemFailure(str(error))


def _silent(message: Message) -> None:
    pass
