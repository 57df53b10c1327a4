import msgspec
import pytest

from seom.errors import InvalidParameter, NotFound
from seom.oci.descriptor import Descriptor, Platform, matches, parse_platform
from seom.oci.image_config import decode_image_config
from seom.oci.manifest import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Index,
    Manifest,
    choose_platform,
    decode_manifest,
    encode_manifest,
)


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def entry(number: int, architecture: str, variant: str = "", os: str = "linux") -> Descriptor:
    return Descriptor(OCI_MANIFEST, digest(number), 10, platform=Platform(architecture, os, variant))


def test_a_manifest_survives_encoding() -> None:
    manifest = Manifest(Descriptor(OCI_CONFIG, digest(1), 5), [Descriptor(OCI_LAYER_GZIP, digest(2), 7)])
    content = encode_manifest(manifest)
    assert content.startswith(b'{"schemaVersion":2,"mediaType":"' + OCI_MANIFEST.encode())
    assert decode_manifest(content) == manifest


def test_what_a_document_says_it_is_wins_over_the_media_type_it_came_with() -> None:
    index = encode_manifest(Index([entry(1, "amd64")]))
    assert isinstance(decode_manifest(index, OCI_MANIFEST), Index)
    assert isinstance(decode_manifest(b'{"schemaVersion":2,"manifests":[]}'), Index)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"schemaVersion":1,"fsLayers":[]}',
        b'{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}',
        b'{"schemaVersion":2,"config":{"mediaType":"x","digest":"sha256:00","size":1},"layers":[]}',
        b'{"schemaVersion":2,"config":{"mediaType":"x","digest":"../etc","size":1},"layers":[]}',
        b'\xff{"schemaVersion":2}',
    ],
)
def test_a_malformed_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidParameter):
        decode_manifest(content)


def test_the_closest_platform_is_chosen() -> None:
    index = Index([entry(1, "arm", "v6"), entry(2, "arm", "v7"), entry(3, "amd64"), entry(4, "arm64", "v8")])
    assert choose_platform(index, Platform("arm", "linux", "v7")).digest == digest(2)
    assert choose_platform(index, Platform("arm", "linux", "v6")).digest == digest(1)
    assert choose_platform(index, Platform("arm64", "linux")).digest == digest(4)
    with pytest.raises(NotFound, match="no matching manifest for linux/s390x in the manifest list entries"):
        choose_platform(index, Platform("s390x", "linux"))


def test_attestations_are_never_chosen() -> None:
    attestation = entry(2, "unknown", os="unknown")
    plain = Descriptor(OCI_MANIFEST, digest(1), 10)
    assert choose_platform(Index([attestation, plain]), Platform("amd64", "linux")) is plain
    with pytest.raises(NotFound):
        choose_platform(Index([attestation]), Platform("amd64", "linux"))


def test_platforms_are_read_in_the_usual_spellings() -> None:
    assert str(parse_platform("linux/x86_64")) == "linux/amd64"
    assert (
        str(parse_platform("aarch64")) == "linux/arm64/v8"
        or parse_platform("aarch64").architecture == "arm64"
    )
    assert str(parse_platform("linux/arm/v7")) == "linux/arm/v7"
    for wrong in ("", "a/b/c/d", "linux/", "li nux/amd64", "plan9"):
        with pytest.raises(InvalidParameter):
            parse_platform(wrong)
    assert not matches(Platform("arm", "linux", "v7"), Platform("arm", "linux", "v6"))


def test_an_index_keeps_its_media_type() -> None:
    assert msgspec.json.decode(encode_manifest(Index([])))["mediaType"] == OCI_INDEX


def test_an_image_configuration_with_dockers_members_is_read() -> None:
    config = decode_image_config(
        b'{"architecture":"amd64","os":"linux","created":"2024-05-06T07:08:09.123456789Z",'
        b'"config":{"Cmd":["sh"],"Healthcheck":{"Test":["CMD","true"],"Interval":5},"Unknown":1},'
        b'"container_config":{"Cmd":null},"rootfs":{"type":"layers","diff_ids":["'
        + digest(1).encode()
        + b'"]},'
        b'"history":[{"created_by":"x","empty_layer":true}]}'
    )
    assert config.execution.cmd == ["sh"]
    assert config.execution.healthcheck is not None
    assert config.execution.healthcheck.interval == 5
    assert config.rootfs.diff_ids == [digest(1)]
    assert config.created_at is not None
    assert config.created_at.year == 2024


@pytest.mark.parametrize("content", [b"", b"[]", b'{"rootfs":{"type":"layers","diff_ids":["sha256:1/.."]}}'])
def test_a_malformed_image_configuration_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidParameter):
        decode_image_config(content)
