"""Layers from directories that overlayfs has filled: the files are kept where they are, and only read.

    upper --> tar --> diff_id
              tar --> gzip --> blob
    upper --rename--> layers/HEX/diff

The tar and the directory hold the same, so a later load of the blob gives the same layer.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Collection
from pathlib import Path

from seom.linux.mount import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from seom.oci.manifest import OCI_LAYER_GZIP
from seom.storage.layers import Layer, LayerStore
from seom.storage.leases import Lease
from seom.storage.pack import TarWriter
from seom.storage.streams import GzipCompressor, Pipe, Stage

_BATCH_BYTES = 1 << 20


def adopt_upper(
    store: LayerStore,
    upper: Path,
    lease: Lease,
    skip: Collection[bytes] = (),
    latest_mtime: int | None = None,
) -> Layer | None:
    """Turn an overlay's upper directory, which nobody has mounted any more, into a layer; blocks.

    skip names paths below it that are no part of the change: they are deleted. Files newer than
    latest_mtime (seconds) get that time. Returns None, and leaves the directory, when nothing was
    changed. Raises OSError.
    """
    _delete(upper, skip)
    if latest_mtime is not None:
        _limit_times(upper, latest_mtime)
    packing = _Packing(store, lease)
    size_bytes = packing.pack(upper)
    if not size_bytes and not packing.tar_bytes:
        return None
    diff_id, blob, blob_bytes = packing.finish()
    lease.hold(diff_id)
    folder = store.new_folder()
    (folder / "diff").rmdir()
    upper.rename(folder / "diff")
    store.publish(folder, diff_id)
    return Layer(diff_id, size_bytes, packing.tar_bytes, blob, blob_bytes, OCI_LAYER_GZIP, store.boot_id)


class _Packing:
    """The tar of a directory on its way through digest and compression."""

    def __init__(self, store: LayerStore, lease: Lease) -> None:
        self._store = store
        self._lease = lease
        self._hasher = hashlib.sha256()
        self._pipe = Pipe()
        self._compress = Stage(self._run_compress)
        self._pieces: list[bytes] = []
        self._waiting = 0
        self.tar_bytes = 0

    def pack(self, upper: Path) -> int:
        """Read the directory; returns the bytes of its files."""
        directory = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        tar = TarWriter(self._take, overlay=True)
        try:
            os.fchown(directory, 0, 0)
            os.fchmod(directory, 0o755)
            tar.add_content(directory)
            if self.tar_bytes:
                tar.finish()
        except BaseException as error:
            self._pipe.fail(error)
            self._compress.wait()
            raise
        finally:
            os.close(directory)
        return tar.file_bytes

    def finish(self) -> tuple[str, str, int]:
        """The digest of the tar, and digest and size of its compressed form."""
        self._pass_on()
        self._pipe.close()
        blob, blob_bytes = self._compress.result()
        return f"sha256:{self._hasher.hexdigest()}", blob, blob_bytes

    def _take(self, piece: bytes) -> None:
        if not self.tar_bytes:
            self._compress.start()
        self._pieces.append(piece)
        self._waiting += len(piece)
        self.tar_bytes += len(piece)
        if self._waiting >= _BATCH_BYTES:
            self._pass_on()

    def _pass_on(self) -> None:
        chunk = b"".join(self._pieces)
        self._pieces, self._waiting = [], 0
        try:
            self._pipe.write(chunk)
        except BrokenPipeError:
            self._compress.result()
            raise
        self._hasher.update(chunk)

    def _run_compress(self) -> tuple[str, int]:
        try:
            with self._store.blobs.writer(lease=self._lease) as writer:
                compressor = GzipCompressor()
                while chunk := self._pipe.read(_BATCH_BYTES):
                    writer.write(compressor.compress(chunk))
                writer.write(compressor.flush())
                return writer.commit(), writer.size
        finally:
            self._pipe.stop_reading()


def _delete(upper: Path, paths: Collection[bytes]) -> None:
    for path in paths:
        directory, name = os.path.split(path)
        try:
            parent = open_real_directory(upper, directory)
        except OSError:  # it is not there any more, or something else is in its place
            continue
        try:
            _delete_entry(parent, os.fsdecode(name))
        finally:
            os.close(parent)


def open_real_directory(upper: Path, path: bytes) -> int:
    """A directory below upper, by way of real directories alone: links in it may name the host's files.

    Raises OSError (ENOENT, ENOTDIR, ELOOP).
    """
    flags = os.O_RDONLY | os.O_DIRECTORY
    root = os.open(upper, flags | os.O_CLOEXEC)
    try:
        return openat2(root, path or b".", flags, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    finally:
        os.close(root)


def _delete_entry(parent: int, name: str) -> None:
    try:
        status = os.lstat(name, dir_fd=parent)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(status.st_mode):
        shutil.rmtree(name, dir_fd=parent)
    else:
        os.unlink(name, dir_fd=parent)


def _limit_times(upper: Path, latest: int) -> None:
    for folder, folders, names in os.walk(os.fsencode(upper), topdown=False):
        for path in [*(os.path.join(folder, name) for name in folders + names), folder]:
            if os.lstat(path).st_mtime > latest:
                os.utime(path, (latest, latest), follow_symlinks=False)
