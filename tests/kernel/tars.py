"""Tar archives made for tests."""

from __future__ import annotations

import io
import struct
import tarfile
from typing import Any, Self


class Tar:
    """Builds an archive entry by entry."""

    def __init__(self, format: int = tarfile.PAX_FORMAT) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buffer, mode="w", format=format)  # noqa: SIM115

    def file(self, name: str, data: bytes, mode: int = 0o644, **more: Any) -> Self:
        return self._add(name, tarfile.REGTYPE, mode, data, **more)

    def folder(self, name: str, mode: int = 0o755, **more: Any) -> Self:
        return self._add(name, tarfile.DIRTYPE, mode, **more)

    def symlink(self, name: str, target: str) -> Self:
        return self._add(name, tarfile.SYMTYPE, 0o777, linkname=target)

    def hard_link(self, name: str, target: str) -> Self:
        return self._add(name, tarfile.LNKTYPE, 0o644, linkname=target)

    def node(self, name: str, kind: bytes, major: int = 0, minor: int = 0) -> Self:
        return self._add(name, kind, 0o600, devmajor=major, devminor=minor)

    def content(self) -> bytes:
        """The whole archive."""
        self._tar.close()
        return self._buffer.getvalue()

    def _add(self, name: str, kind: bytes, mode: int, data: bytes = b"", **more: Any) -> Self:
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.size = kind, mode, len(data)
        xattrs = more.pop("xattrs", None)
        if isinstance(xattrs, dict):
            info.pax_headers = {
                f"SCHILY.xattr.{key}": value.decode("utf-8", "surrogateescape")
                for key, value in xattrs.items()
            }
        for field, value in more.items():
            setattr(info, field, value)
        self._tar.addfile(info, io.BytesIO(data))
        return self


def capability(permitted: int) -> bytes:
    """A security.capability attribute (version 2) with these permitted capabilities."""
    return struct.pack("<5I", 0x02000001, permitted & 0xFFFFFFFF, 0, permitted >> 32, 0)
