"""Images put into a registry byte by byte, past every client under test."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass

from seom.oci.manifest import (
    DOCKER_CONFIG,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
)
from tests.harness.registry import Registry


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


@dataclass
class Published:
    """An image as a registry holds it."""

    name: str
    id: str
    manifest: bytes
    layers: list[bytes]
    packed: list[bytes]
    config: bytes

    @property
    def digest(self) -> str:
        return digest(self.manifest)

    def row(self, number: int) -> str:
        return digest(self.packed[number]).removeprefix("sha256:")[:12]


def make_layer(name: str, size: int = 200_000) -> bytes:
    """A layer of one file with noise in it, different for each name and always the same."""
    noise = b"".join(hashlib.sha256(f"{name}{n}".encode()).digest() for n in range(size // 32 + 1))[:size]
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo(f"{name}.bin")
        member.size = size
        archive.addfile(member, io.BytesIO(noise))
    return stream.getvalue()


def publish(
    registry: Registry,
    name: str,
    tag: str,
    layers: list[bytes],
    *,
    docker: bool = False,
    pack: Callable[[bytes], bytes] = lambda layer: gzip.compress(layer, 1, mtime=0),
    layer_type: str = OCI_LAYER_GZIP,
    architecture: str = "amd64",
    diff_ids: list[str] | None = None,
) -> Published:
    """Put an image into a registry past the client under test."""
    config = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": [name]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids or [digest(layer) for layer in layers]},
        }
    ).encode()
    packed = [pack(layer) for layer in layers]
    for blob in (config, *packed):
        registry.put_blob(name, blob, digest(blob))
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST if docker else OCI_MANIFEST,
            "config": {
                "mediaType": DOCKER_CONFIG if docker else OCI_CONFIG,
                "digest": digest(config),
                "size": len(config),
            },
            "layers": [
                {
                    "mediaType": DOCKER_LAYER_GZIP if docker else layer_type,
                    "digest": digest(blob),
                    "size": len(blob),
                }
                for blob in packed
            ],
        },
        indent=3,
    ).encode()
    registry.put_manifest(name, tag, manifest, DOCKER_MANIFEST if docker else OCI_MANIFEST)
    return Published(f"{registry.host}/{name}:{tag}", digest(config), manifest, layers, packed, config)


def publish_index(registry: Registry, name: str, tag: str, images: dict[str, Published]) -> bytes:
    entries = []
    for platform, image in images.items():
        system, architecture = platform.split("/")
        entries.append(
            {
                "mediaType": OCI_MANIFEST,
                "digest": image.digest,
                "size": len(image.manifest),
                "platform": {"os": system, "architecture": architecture},
            }
        )
    content = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    registry.put_manifest(name, tag, content, OCI_INDEX)
    return content
