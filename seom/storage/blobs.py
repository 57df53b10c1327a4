"""Content-addressed blobs: files named by the digest of what they hold.

    DATA_ROOT/blobs/
        sha256/HEX      complete, synced, never changed
        sha512/HEX
        ingest/RANDOM   being written; whatever is here at start is left over from a crash

A blob appears by rename after its digest was verified and its bytes are on disk, so what has
its final name is whole. Everything here blocks and may be called from any thread.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from seom.errors import InvalidParameter, NotFound, SystemFailure
from seom.oci.descriptor import check_digest, digest_of
from seom.storage.leases import Lease

CHUNK_BYTES = 1 << 20
_LENGTHS = {"sha256": 64, "sha512": 128}


class Readable(Protocol):
    """The reading half of a binary file."""

    def read(self, size: int = -1, /) -> bytes:
        """Up to size bytes; empty at the end."""
        ...


class DigestMismatch(InvalidParameter):
    """Content is not what its digest or size says."""


class BlobStore:
    """The blobs of one data root."""

    def __init__(self, data_root: Path) -> None:
        """Prepare the folders; leftovers of an earlier run stay until remove_leftovers()."""
        self.root = data_root / "blobs"
        self._ingest = self.root / "ingest"
        for folder in (*_LENGTHS, "ingest"):
            (self.root / folder).mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Where a blob is, or would be."""
        algorithm, _, name = check_digest(digest).partition(":")
        return self.root / algorithm / name

    def exists(self, digest: str) -> bool:
        """Whether the blob is here, whole."""
        return self.path(digest).exists()

    def size(self, digest: str) -> int:
        """Bytes; raises NotFound."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError as error:
            raise _missing(digest) from error

    def open(self, digest: str) -> BinaryIO:
        """An unbuffered file on the content; raises NotFound. Not verified: see verified()."""
        try:
            return open(self.path(digest), "rb", buffering=0)
        except FileNotFoundError as error:
            raise _missing(digest) from error

    def read(self, digest: str, limit_bytes: int) -> bytes:
        """The verified content of a small blob.

        Raises NotFound, InvalidParameter when it is larger than the limit, and SystemFailure
        when the file is damaged.
        """
        with self.open(digest) as file:
            content = file.read(limit_bytes + 1)
        if len(content) > limit_bytes:
            raise InvalidParameter(f"{digest} is larger than the {limit_bytes} bytes allowed for its kind")
        if digest_of(content, digest.partition(":")[0]) != digest:
            raise damaged(digest)
        return content

    def verified(self, digest: str, report: Callable[[int], None] | None = None) -> Iterator[bytes]:
        """The content in chunks; raises SystemFailure at the end if the file is damaged."""
        hasher = hashlib.new(digest.partition(":")[0])
        with self.open(digest) as file:
            while chunk := file.read(CHUNK_BYTES):
                hasher.update(chunk)
                if report:
                    report(len(chunk))
                yield chunk
        if hasher.hexdigest() != digest.partition(":")[2]:
            raise damaged(digest)

    def add(self, content: bytes, expected: str = "") -> str:
        """Store content in memory and return its digest; raises DigestMismatch."""
        with self.writer(expected) as writer:
            writer.write(content)
            return writer.commit()

    def writer(
        self, expected: str = "", size_bytes: int | None = None, lease: Lease | None = None
    ) -> BlobWriter:
        """Begin a blob; expected and size_bytes are verified by commit() when given.

        The lease, if given, holds the blob from before it appears.
        """
        return BlobWriter(self, self._ingest / secrets.token_hex(16), expected, size_bytes, lease)

    def remove(self, digest: str) -> int:
        """Delete a blob; returns the bytes freed, 0 if it was not there."""
        path = self.path(digest)
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return 0
        return size

    def digests(self) -> Iterator[str]:
        """Every complete blob."""
        for algorithm, length in _LENGTHS.items():
            name = re.compile(rf"[0-9a-f]{{{length}}}")
            with os.scandir(self.root / algorithm) as entries:
                yield from (f"{algorithm}:{entry.name}" for entry in entries if name.fullmatch(entry.name))

    def remove_leftovers(self) -> None:
        """Delete what writers of an earlier run left; only before the first writer of this one."""
        for entry in self._ingest.iterdir():
            entry.unlink()


class BlobWriter:
    """Writes one blob: write() as often as needed, then commit(); leaving without it discards.

    One thread at a time; which thread may change between calls.
    """

    def __init__(
        self, store: BlobStore, path: Path, expected: str, size_bytes: int | None, lease: Lease | None
    ) -> None:
        self._store = store
        self._lease = lease
        self._path = path
        self._expected = check_digest(expected) if expected else ""
        self._declared_size = size_bytes
        self._hasher = hashlib.new(self._expected.partition(":")[0] or "sha256")
        self._file: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.size = 0

    def write(self, chunk: bytes | memoryview) -> None:
        """Append; raises OSError (ENOSPC) and DigestMismatch as soon as the declared size is passed."""
        if self._file is None:
            raise ValueError("the blob is already committed or discarded")
        self._hasher.update(chunk)
        view = memoryview(chunk)
        self.size += len(view)
        if self._declared_size is not None and self.size > self._declared_size:
            raise DigestMismatch(f"content is longer than the {self._declared_size} bytes declared")
        while view:
            view = view[os.write(self._file, view) :]

    def restart(self) -> None:
        """Forget what was written: the source begins again from its first byte."""
        if self._file is None:
            raise ValueError("the blob is already committed or discarded")
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        self._hasher = hashlib.new(self._hasher.name)
        self.size = 0

    @property
    def digest(self) -> str:
        """The digest of what was written so far."""
        return f"{self._hasher.name}:{self._hasher.hexdigest()}"

    def commit(self) -> str:
        """Verify, sync and publish; returns the digest. Raises DigestMismatch and OSError."""
        if self._file is None:
            raise ValueError("the blob is already committed or discarded")
        digest = self.digest
        if self._declared_size is not None and self.size != self._declared_size:
            raise DigestMismatch(f"content has {self.size} bytes, {self._declared_size} were declared")
        if self._expected and digest != self._expected:
            raise DigestMismatch(f"content has digest {digest}, expected {self._expected}")
        os.fsync(self._file)
        os.close(self._file)
        self._file = None
        if self._lease:
            self._lease.hold(digest)
        target = self._store.path(digest)
        os.rename(self._path, target)
        sync_folder(target.parent)
        return digest

    def discard(self) -> None:
        """Delete what was written; nothing happens after commit()."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def damaged(digest: str) -> SystemFailure:
    """The error for content on disk that no longer has its digest."""
    return SystemFailure(
        f"the stored content {digest} is damaged; pull or load the image again to replace it "
        "(and check the disk)"
    )


def _missing(digest: str) -> NotFound:
    return NotFound(f"content {digest} is not in the store; pull or load the image again")
