"""Digests, descriptors and platforms: how one piece of content names another.

See the OCI image specification, descriptor.md and image-index.md.
"""

from __future__ import annotations

import hashlib
import platform as host
import re

import msgspec

from seom.errors import InvalidParameter

DIGEST = re.compile(r"(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})")


class Platform(msgspec.Struct, omit_defaults=True):
    """What a program was built for, in Go's names: linux, amd64, v8."""

    architecture: str = ""
    os: str = ""
    variant: str = ""
    os_version: str = msgspec.field(default="", name="os.version")
    os_features: list[str] | None = msgspec.field(default=None, name="os.features")

    def __str__(self) -> str:
        # v8 is what arm64 means; Docker leaves it out as well
        variant = "" if (self.architecture, self.variant) == ("arm64", "v8") else self.variant
        return "/".join(part for part in (self.os, self.architecture, variant) if part)


class Descriptor(msgspec.Struct, rename="camel", omit_defaults=True):
    """A typed reference to content by digest; size in bytes."""

    media_type: str
    digest: str
    size: int
    urls: list[str] | None = None
    annotations: dict[str, str] | None = None
    platform: Platform | None = None
    artifact_type: str = ""
    data: str | None = None


def check_digest(digest: str) -> str:
    """The digest itself when it is well-formed sha256 or sha512; raises InvalidParameter otherwise."""
    if not DIGEST.fullmatch(digest):
        raise InvalidParameter(f"invalid digest {digest!r}: expected sha256:HEX or sha512:HEX")
    return digest


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    """The digest of content in memory."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "amd64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "arm64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armhf": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armel": ("arm", "v6"),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
    "loongarch64": ("loong64", ""),
}


def host_platform() -> Platform:
    """The platform of this machine."""
    architecture, variant = _ARCHITECTURES.get(host.machine(), (host.machine(), ""))
    return Platform(architecture=architecture, os="linux", variant=variant)


def parse_platform(text: str) -> Platform:
    """Read os[/architecture[/variant]] or architecture[/variant], as --platform takes it.

    Raises InvalidParameter. Uname's spellings (x86_64, aarch64) are understood.
    """
    parts = text.lower().split("/")
    if not text or len(parts) > 3 or not all(re.fullmatch(r"[a-z0-9_.-]+", part) for part in parts):
        raise InvalidParameter(
            f'"{text}" is an invalid component of "{text}": platform specifier must be os[/arch[/variant]]'
        )
    if parts[0] != "linux":
        if len(parts) == 1 and parts[0] in {"windows", "darwin", "freebsd"}:
            return Platform(os=parts[0], architecture=host_platform().architecture)
        if len(parts) < 3 and (parts[0] in _ARCHITECTURES or parts[0].startswith(("arm", "mips"))):
            parts.insert(0, "linux")
    elif len(parts) == 1:
        return host_platform()
    if len(parts) == 1:
        raise InvalidParameter(f'"{text}": unknown operating system or architecture')
    architecture, variant = _ARCHITECTURES.get(parts[1], (parts[1], ""))
    return Platform(os=parts[0], architecture=architecture, variant=parts[2] if parts[2:] else variant)


def matches(have: Platform, wanted: Platform) -> bool:
    """Whether content for one platform serves another: same OS and architecture, no newer variant."""
    if have.os != wanted.os or have.architecture != wanted.architecture:
        return False
    if not wanted.variant or not have.variant or have.variant == wanted.variant:
        return True
    if have.architecture == "arm64":
        return have.variant <= wanted.variant and have.variant.startswith("v8")
    return have.architecture == "arm" and have.variant < wanted.variant
