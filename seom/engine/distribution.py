"""What pull, push and login do: references, accounts and events around the registry client."""

from __future__ import annotations

from seom.engine.events import EventBus
from seom.engine.full_disk import full_disk_explained
from seom.engine.images import Images
from seom.errors import InvalidParameter
from seom.images.auth import Credentials, registry_of_account
from seom.images.endpoint import RegistrySettings
from seom.images.progress import Report
from seom.images.pull import Puller, pull_error
from seom.images.push import Pusher
from seom.images.registry import FetchedManifest, RegistryClient
from seom.images.registry_errors import RegistryRefusal
from seom.oci.descriptor import Platform
from seom.oci.reference import Reference, parse_reference


class Distribution:
    """Moves images between this host and registries."""

    def __init__(self, images: Images, events: EventBus, insecure: tuple[str, ...] = ()) -> None:
        self._settings = RegistrySettings(insecure=insecure)
        self._images = images
        self._events = events
        self._puller = Puller(images.store, images.blobs, images.layers, images.leases, self._settings)
        self._pusher = Pusher(images.store, images.blobs, images.leases, self._settings)

    async def pull(
        self, reference: Reference, report: Report, platform: Platform | None, credentials: Credentials
    ) -> None:
        """Pull an image, or with neither tag nor digest every tag of the repository; see Puller."""
        pull = self._puller.pull if reference.tag or reference.digest else self._puller.pull_all_tags
        try:
            with full_disk_explained(self._images.data_root):
                await pull(reference, report, platform, credentials)
        finally:
            self._images.content_arrived()
        self._publish("pull", reference)

    async def push(self, reference: Reference, report: Report, credentials: Credentials) -> None:
        """Push a tag, or without one every tag of the repository; see Pusher."""
        if reference.digest:
            raise InvalidParameter("cannot push a digest reference")
        if reference.tag:
            await self._pusher.push(reference, report, credentials)
        else:
            await self._pusher.push_all_tags(reference, report, credentials)
        self._publish("push", reference)

    async def login(self, credentials: Credentials) -> str:
        """Check an account with its registry; returns an identity token if the registry gives one.

        Raises Unauthorized when the account is refused, Unavailable when nobody answers.
        """
        registry = registry_of_account(credentials.serveraddress)
        async with RegistryClient(registry, credentials, self._settings) as client:
            return await client.check_login()

    async def inspect(self, reference: Reference, credentials: Credentials) -> FetchedManifest:
        """The manifest or index that a registry has under a name, without pulling it."""
        reference = reference.with_default_tag()
        async with RegistryClient(reference.domain, credentials, self._settings) as client:
            try:
                return await client.fetch_manifest(reference.path, reference.digest or reference.tag)
            except RegistryRefusal as error:
                raise pull_error(error, reference) from error

    def close(self) -> None:
        """Let the download threads end."""
        self._puller.close()

    def _publish(self, action: str, reference: Reference) -> None:
        attributes = {"name": reference.familiar_repository}
        self._events.publish("image", action, reference.familiar, attributes)


def wanted_reference(name: str, tag: str) -> Reference:
    """The reference of a request that names image and tag apart; the tag may be a digest.

    Raises InvalidParameter with Docker's texts.
    """
    reference = parse_reference(name.removesuffix(":"))
    if not tag:
        return reference
    if ":" in tag:
        return parse_reference(f"{reference.repository}@{tag}")
    return reference.with_tag(tag)
