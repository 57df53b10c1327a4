"""Unpacked layers: one directory for each diff_id, shared by every image and container.

    DATA_ROOT/layers/
        HEX/diff        the files, as overlayfs takes them (whiteouts, opaque directories)
        empty/          for images without a layer
        ingest/RANDOM/  being unpacked; whatever is here at start is left over from a crash

HEX is the digest of the uncompressed tar (diff_id); a sha512 one is longer. A layer appears by
rename when it is whole. The compressed form lies in the blob store, where push and save find it;
a plain tar is compressed on its way in.

    caller --> blob: digest, write       | all three
           --> inflate, digest of tar    | at the
               --> extract               | same time
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from seom.errors import InvalidParameter
from seom.oci.descriptor import check_digest
from seom.oci.manifest import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD
from seom.storage.blobs import BlobStore, BlobWriter, DigestMismatch, Readable
from seom.storage.leases import Lease
from seom.storage.placement import spread_subfolders
from seom.storage.streams import GZIP, PLAIN, ZSTD, GzipCompressor, Pipe, Stage, compression_of, decompressed
from seom.storage.unpack import Limits, unpack

MEDIA_TYPES = {PLAIN: OCI_LAYER, GZIP: OCI_LAYER_GZIP, ZSTD: OCI_LAYER_ZSTD}
_NAME = re.compile(r"[0-9a-f]{64}|[0-9a-f]{128}")
_HEAD_BYTES = 6
_CHUNK_BYTES = 1 << 20

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: its identity, the bytes of its files and of its tar, and its compressed form.

    boot_id is empty once the files are known to be on disk; until then they are trusted only
    while the same boot lasts, and unpacked again from the blob afterwards.
    """

    diff_id: str
    size_bytes: int
    tar_bytes: int
    blob: str
    blob_bytes: int
    media_type: str
    boot_id: str = ""


class LayerStore:
    """The unpacked layers of one data root. Everything here blocks; call it from threads."""

    def __init__(self, data_root: Path, blobs: BlobStore, limits: Limits | None = None) -> None:
        """Prepare the folders; leftovers of an earlier run stay until remove_leftovers()."""
        self.root = data_root / "layers"
        self.blobs = blobs
        self.limits = limits or Limits()
        self.boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self._ingest = self.root / "ingest"
        self._ingest.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root.chmod(0o700)
        spread_subfolders(self._ingest)

    def path(self, diff_id: str) -> Path:
        """The directory with a layer's files, or where it would be."""
        return self.root / check_digest(diff_id).partition(":")[2] / "diff"

    def exists(self, diff_id: str) -> bool:
        """Whether the layer is unpacked."""
        return self.path(diff_id).exists()

    def empty(self) -> Path:
        """A directory with nothing in it."""
        folder = self.root / "empty"
        folder.mkdir(mode=0o755, exist_ok=True)
        return folder

    def writer(
        self, diff_id: str = "", blob: str = "", blob_bytes: int | None = None, lease: Lease | None = None
    ) -> LayerWriter:
        """Begin a layer that arrives as a stream: tar, plain or packed with gzip, zstd, xz or bzip2.

        Digests and size (of the stream as it arrives) are verified when given. The stream is kept
        as a blob; without a given blob digest, what is not gzip or zstd is kept as gzip.
        The lease, if given, holds blob and layer from before they appear.
        """
        return LayerWriter(self, diff_id, blob, blob_bytes, lease)

    def add(self, source: Readable, diff_id: str = "", blob: str = "", lease: Lease | None = None) -> Layer:
        """Read a whole stream into a layer; see writer()."""
        with self.writer(diff_id, blob, None, lease) as writer:
            while chunk := source.read(_CHUNK_BYTES):
                writer.write(chunk)
            return writer.commit()

    def unpack(self, source: Readable, diff_id: str, blob: str) -> Layer:
        """Unpack a stream that somebody else verifies and keeps as the given blob.

        The source raises at its end when the stream turns out not to be that blob.
        """
        with LayerWriter(self, diff_id, blob, None, None, keep_blob=False) as writer:
            while chunk := source.read(_CHUNK_BYTES):
                writer.write(chunk)
            return writer.commit()

    def unpack_blob(self, blob: str, diff_id: str = "", report: Callable[[int], None] | None = None) -> Layer:
        """Unpack a layer whose compressed form is in the blob store; report gets bytes as they are read."""
        return self.unpack(_Chunks(self.blobs.verified(blob, report)), diff_id, blob)

    def remove(self, diff_id: str) -> None:
        """Delete a layer's files, if they are here: first out of sight, then for good."""
        if grave := self.bury(diff_id):
            shutil.rmtree(grave)

    def bury(self, diff_id: str) -> Path | None:
        """Take a layer out of sight at once; returns the folder for the caller to delete."""
        grave = self._ingest / secrets.token_hex(16)
        try:
            self.path(diff_id).parent.rename(grave)
        except FileNotFoundError:
            return None
        return grave

    def diff_ids(self) -> Iterator[str]:
        """Every unpacked layer."""
        with os.scandir(self.root) as entries:
            for entry in entries:
                if _NAME.fullmatch(entry.name):
                    yield f"{'sha256' if len(entry.name) == 64 else 'sha512'}:{entry.name}"

    def remove_leftovers(self) -> None:
        """Delete what writers of an earlier run left; only before the first writer of this one."""
        for entry in self._ingest.iterdir():
            shutil.rmtree(entry)

    def sync(self) -> None:
        """Wait until every unpacked layer is on disk."""
        os.sync()

    def new_folder(self) -> Path:
        """A folder for unpacking."""
        folder = self._ingest / secrets.token_hex(16)
        (folder / "diff").mkdir(parents=True, mode=0o755)
        folder.chmod(0o700)
        return folder

    def publish(self, folder: Path, diff_id: str) -> None:
        """Give a whole layer its name; one that is there already stays.

        Neither files nor name are on disk yet: see Layer.boot_id.
        """
        try:
            folder.rename(self.path(diff_id).parent)
        except OSError:
            if not self.exists(diff_id):
                raise
            shutil.rmtree(folder)


class _Chunks:
    """An iterator of chunks as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def read(self, size: int = -1, /) -> bytes:
        """The next chunk, whatever the size asked for; empty at the end."""
        return next(self._chunks, b"")


class LayerWriter:
    """Takes a layer's stream by write(), then commit(); leaving without it discards everything.

    One thread at a time; which thread may change between calls.
    """

    def __init__(
        self,
        store: LayerStore,
        diff_id: str,
        blob: str,
        blob_bytes: int | None,
        lease: Lease | None,
        keep_blob: bool = True,
    ) -> None:
        self._store = store
        self._lease = lease
        self._diff_id = check_digest(diff_id) if diff_id else ""
        self._blob = blob
        self._blob_bytes = blob_bytes
        self._keep_blob = keep_blob
        self._hasher = hashlib.new(self._diff_id.partition(":")[0] or "sha256")
        self._compression = PLAIN
        self._received = 0
        self._inflated = 0
        self._folder = store.new_folder()
        self._blob_writer: BlobWriter | None = None
        self._input, self._tar = Pipe(), Pipe()
        self._extract = Stage(self._run_extract)
        self._inflate = Stage(self._run_inflate)
        self._compressed: Pipe | None = None
        self._compress: Stage[Layer] | None = None
        self._head = b""

    def write(self, chunk: bytes) -> None:
        """Take the next bytes; waits while the disk is behind. Raises what commit() raises."""
        if len(self._head) < _HEAD_BYTES:
            self._head += chunk
            if len(self._head) < _HEAD_BYTES:
                return
            chunk = self._head
            self._begin()
        self._pass_on(chunk)

    def commit(self) -> Layer:
        """Verify both digests, sync the blob and publish both; returns the layer.

        Raises DigestMismatch, InvalidParameter (damaged or malicious archive) and OSError
        (ENOSPC).
        """
        if len(self._head) < _HEAD_BYTES:
            self._begin()
            self._pass_on(self._head)
        self._input.close()
        if self._blob_writer:
            self._blob_writer.commit()  # syncs while the rest is extracted
        size_bytes = self._finish(self._extract)
        diff_id = self._finish(self._inflate)
        if self._diff_id and self._diff_id != diff_id:
            raise DigestMismatch(f"the layer unpacks to {diff_id}, expected {self._diff_id}")
        form = self._finish(self._compress) if self._compress else self._form_received()
        if self._lease:
            self._lease.hold(diff_id)
        self._store.publish(self._folder, diff_id)
        return replace(
            form,
            diff_id=diff_id,
            size_bytes=size_bytes,
            tar_bytes=self._inflated,
            boot_id=self._store.boot_id,
        )

    def discard(self) -> None:
        """Stop the stages and delete what they made; what commit() published stays."""
        self._input.fail(BrokenPipeError("the layer was given up"))
        for stage in (self._inflate, self._extract, self._compress):
            if stage:
                stage.wait()
        if self._blob_writer:
            self._blob_writer.discard()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def _begin(self) -> None:
        """Decide by the first bytes how the layer is kept, and start the stages."""
        self._compression = compression_of(self._head)
        if self._keep_blob and (self._blob or self._compression in MEDIA_TYPES.keys() - {PLAIN}):
            self._blob_writer = self._store.blobs.writer(self._blob, self._blob_bytes, self._lease)
        elif self._keep_blob:
            self._compressed = Pipe()
            self._compress = Stage(self._run_compress)
            self._compress.start()
        self._inflate.start()
        self._extract.start()

    def _pass_on(self, chunk: bytes) -> None:
        self._received += len(chunk)
        try:
            self._input.write(chunk)
        except BrokenPipeError:
            self._raise_cause()
            raise
        if self._blob_writer:
            self._blob_writer.write(chunk)

    def _finish(self, stage: Stage[Result]) -> Result:
        try:
            return stage.result()
        except BrokenPipeError:
            self._raise_cause()
            raise

    def _raise_cause(self) -> None:
        """A broken pipe says only that a later stage has failed: raise what that one met."""
        for stage in (self._extract, self._compress, self._inflate):
            if stage and (error := stage.error()) and not isinstance(error, BrokenPipeError):
                raise error

    def _form_received(self) -> Layer:
        blob = self._blob_writer.digest if self._blob_writer else self._blob
        media_type = MEDIA_TYPES.get(self._compression, OCI_LAYER)
        return Layer("", 0, 0, blob, self._received, media_type)

    # Stages

    def _run_inflate(self) -> str:
        """Decompress, digest, and hand on to extraction (and compression)."""
        outputs = [self._tar, self._compressed] if self._compressed else [self._tar]
        try:
            _, plain = decompressed(self._input)
            while chunk := plain.read(_CHUNK_BYTES):
                self._inflated += len(chunk)
                self._check_ratio()
                for output in outputs:
                    output.write(chunk)
                self._hasher.update(chunk)
        except BaseException as error:
            self._input.stop_reading()
            for output in outputs:
                output.fail(error)
            raise
        for output in outputs:
            output.close()
        return f"{self._hasher.name}:{self._hasher.hexdigest()}"

    def _check_ratio(self) -> None:
        limits = self._store.limits
        most = max(limits.ratio_from_bytes, limits.largest_ratio * self._received)
        if self._inflated > most:
            raise InvalidParameter(
                f"the layer unpacks to more than {limits.largest_ratio} times its size: refused as a "
                "decompression bomb"
            )

    def _run_extract(self) -> int:
        directory = os.open(self._folder / "diff", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return unpack(self._tar, directory, self._store.limits)
        finally:
            self._tar.stop_reading()
            os.close(directory)

    def _run_compress(self) -> Layer:
        assert self._compressed
        try:
            with self._store.blobs.writer(lease=self._lease) as writer:
                compressor = GzipCompressor()
                while chunk := self._compressed.read(_CHUNK_BYTES):
                    writer.write(compressor.compress(chunk))
                writer.write(compressor.flush())
                return Layer("", 0, 0, writer.commit(), writer.size, OCI_LAYER_GZIP)
        finally:
            self._compressed.stop_reading()
