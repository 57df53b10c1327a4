"""The image configuration: what an image runs by default, and which layers it is made of.

Its digest is the image's id, so the bytes are kept as received and never re-encoded.
See the OCI image specification, config.md; Docker's further members (container_config,
docker_version, Healthcheck, OnBuild, Shell ...) are understood too.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from seom.errors import InvalidParameter
from seom.oci.descriptor import Platform, check_digest

# Read into memory; real ones have a few kilobytes.
LARGEST_CONFIG_BYTES = 8 << 20


class Healthcheck(msgspec.Struct, rename="pascal", omit_defaults=True):
    """Durations in nanoseconds; zero means the engine's default."""

    test: list[str] | None = None
    interval: int = 0
    timeout: int = 0
    retries: int = 0
    start_period: int = 0
    start_interval: int = 0


class ExecutionConfig(msgspec.Struct, rename="pascal", omit_defaults=True):
    """The defaults for containers of this image (the "config" member)."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, object] | None = None
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] | None = None
    cmd: list[str] | str | None = None
    healthcheck: Healthcheck | None = None
    args_escaped: bool = False
    image: str = ""
    volumes: dict[str, object] | None = None
    working_dir: str = ""
    entrypoint: list[str] | str | None = None
    network_disabled: bool | None = None
    mac_address: str | None = None
    on_build: list[str] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str | None = None
    stop_timeout: int | None = None
    shell: list[str] | None = None


class RootFs(msgspec.Struct, omit_defaults=False):
    """The digests of the uncompressed layers, lowest first."""

    type: str = "layers"
    diff_ids: list[str] = []


class History(msgspec.Struct, omit_defaults=True):
    """How one layer came to be; empty_layer when the step changed no files."""

    created: str | None = None
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfig(msgspec.Struct, omit_defaults=True):
    """An image's configuration document."""

    architecture: str = ""
    config: ExecutionConfig | None = None
    created: str | None = None
    author: str = ""
    history: list[History] | None = None
    os: str = ""
    rootfs: RootFs = msgspec.field(default_factory=RootFs)
    variant: str = ""
    os_version: str = msgspec.field(default="", name="os.version")
    os_features: list[str] | None = msgspec.field(default=None, name="os.features")
    comment: str = ""
    container: str = ""
    docker_version: str = ""
    container_config: Any = None

    @property
    def execution(self) -> ExecutionConfig:
        """The defaults for containers; empty ones when the image has none."""
        return self.config or ExecutionConfig()

    @property
    def platform(self) -> Platform:
        """What the image was built for."""
        return Platform(architecture=self.architecture, os=self.os or "linux", variant=self.variant)

    @property
    def created_at(self) -> datetime | None:
        """When the image was made, or None if it does not say."""
        if not self.created:
            return None
        try:
            return msgspec.convert(self.created, datetime, strict=False)
        except msgspec.ValidationError:
            return None


def decode_image_config(content: bytes) -> ImageConfig:
    """Read a configuration; raises InvalidParameter when it is none, or its layers are malformed."""
    try:
        config = msgspec.json.decode(content, type=ImageConfig)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"invalid image configuration: {error}") from error
    for diff_id in config.rootfs.diff_ids:
        check_digest(diff_id)
    return config


def encode_image_config(config: ImageConfig) -> bytes:
    """The canonical JSON of a newly made configuration (members sorted, as their digest is an id)."""
    return msgspec.json.encode(config, order="sorted")
