"""Image manifests and indexes, in OCI's and Docker's media types (same shape).

See the OCI image specification, manifest.md and image-index.md, and Docker's schema 2.
"""

from __future__ import annotations

from typing import Any

import msgspec

from seom.errors import InvalidParameter, NotFound
from seom.oci.descriptor import Descriptor, Platform, check_digest, matches

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
OCI_LAYER_FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST_V1 = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LAYER_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"

MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEXES = frozenset({OCI_INDEX, DOCKER_INDEX})
IMAGE_CONFIGS = frozenset({OCI_CONFIG, DOCKER_CONFIG})

# A manifest is read into memory; registries refuse larger ones too.
LARGEST_MANIFEST_BYTES = 4 << 20


class Manifest(msgspec.Struct, rename="camel", omit_defaults=True):
    """One image for one platform: its configuration and its layers, lowest first."""

    config: Descriptor
    layers: list[Descriptor]
    schema_version: int = msgspec.field(default=0)
    media_type: str = ""
    artifact_type: str = ""
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None


class Index(msgspec.Struct, rename="camel", omit_defaults=True):
    """Several manifests, usually one image for several platforms."""

    manifests: list[Descriptor]
    schema_version: int = msgspec.field(default=0)
    media_type: str = ""
    artifact_type: str = ""
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None


class _Kind(msgspec.Struct, rename="camel"):
    schema_version: int = 0
    media_type: str = ""
    manifests: Any = None
    layers: Any = None


def decode_manifest(content: bytes, media_type: str = "") -> Manifest | Index:
    """Read a manifest or an index; the document itself says which it is, media_type decides in doubt.

    Raises InvalidParameter for anything malformed, for schema 1, and for a document that is both.
    """
    try:
        kind = msgspec.json.decode(content, type=_Kind)
        if kind.schema_version == 1 and kind.media_type not in MANIFESTS | INDEXES:
            raise InvalidParameter(
                "the manifest is of Docker's schema 1, which is no longer supported; "
                "push the image again with a current client"
            )
        # CVE-2021-41190: a document that is both could be read differently by two programs.
        if kind.manifests is not None and kind.layers is not None:
            raise InvalidParameter('invalid manifest: both "manifests" and "layers" are given')
        is_index = (kind.media_type or media_type) in INDEXES or (
            not kind.media_type and kind.manifests is not None
        )
        document: Manifest | Index
        if is_index:
            document = msgspec.json.decode(content, type=Index)
        else:
            document = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"invalid manifest: {error}") from error
    if isinstance(document, Manifest):
        for descriptor in (document.config, *document.layers):
            _check_descriptor(descriptor)
    else:
        for descriptor in document.manifests:
            _check_descriptor(descriptor)
    return document


def encode_manifest(document: Manifest | Index) -> bytes:
    """The JSON of a manifest or an index, with its schema version and media type filled in."""
    document.schema_version = 2
    if not document.media_type:
        document.media_type = OCI_INDEX if isinstance(document, Index) else OCI_MANIFEST
    fields = msgspec.to_builtins(document)
    head = {name: fields.pop(name) for name in ("schemaVersion", "mediaType")}
    return msgspec.json.encode(head | fields)


def choose_platform(index: Index, wanted: Platform) -> Descriptor:
    """The manifest of an index that fits a platform best; raises NotFound when none does.

    An exact variant is preferred to an older one; entries without a platform are taken only
    when there is nothing else (an index of one image), attestations never.
    """
    images = [entry for entry in index.manifests if not is_attestation(entry)]
    fitting = [entry for entry in images if entry.platform and matches(entry.platform, wanted)]
    if fitting:
        return max(fitting, key=lambda entry: _closeness(entry, wanted))
    plain = [entry for entry in images if entry.platform is None]
    if len(plain) == len(images) and plain:
        return plain[0]
    raise NotFound(f"no matching manifest for {wanted} in the manifest list entries")


def is_attestation(entry: Descriptor) -> bool:
    """Whether an index entry holds provenance or an SBOM rather than an image."""
    annotations = entry.annotations or {}
    return annotations.get("vnd.docker.reference.type") == "attestation-manifest" or (
        entry.platform is not None and entry.platform.os == "unknown"
    )


def is_foreign(layer: Descriptor) -> bool:
    """Whether a layer may not be distributed and is fetched from its urls."""
    return layer.media_type.startswith(OCI_LAYER_FOREIGN) or layer.media_type == DOCKER_LAYER_FOREIGN


def _closeness(entry: Descriptor, wanted: Platform) -> tuple[bool, str]:
    variant = entry.platform.variant if entry.platform else ""
    return (variant == wanted.variant, variant)


def _check_descriptor(descriptor: Descriptor) -> None:
    check_digest(descriptor.digest)
    if descriptor.size < 0:
        raise InvalidParameter(f"invalid manifest: negative size of {descriptor.digest}")
