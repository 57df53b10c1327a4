"""A build's own files: its context, and what becomes layers.

    DATA_ROOT/builds/
        ID/context          what the client sent
        ID/N/upper, work    overlays being written
        ID/N                downloads, scripts, copies to be mounted
        mounts/NAME         directories of RUN --mount=type=cache

ID/ goes with the build; after a crash the next start deletes it.
"""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from seom.containers.container_path import open_inside
from seom.errors import InvalidParameter
from seom.linux.overlay import open_overlay
from seom.storage.blobs import Readable
from seom.storage.streams import decompressed
from seom.storage.unpack import Placement, place

MOUNTS = "mounts"


class Workspace:
    """The folder of one build. Everything blocks."""

    def __init__(self, builds: Path) -> None:
        self.folder = builds / secrets.token_hex(8)
        self.context_folder = self.folder / "context"
        self.context_folder.mkdir(mode=0o700, parents=True)
        self.context = os.open(self.context_folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._numbers = itertools.count()
        self._trees: dict[tuple[str, ...], int] = {}
        self._kept: list[int] = []
        self._lock = threading.Lock()

    def receive(self, archive: Readable) -> None:
        """Take in the context: a tar, plain or compressed. Its owners are dropped.

        Raises InvalidParameter for a damaged one.
        """
        _, plain = decompressed(archive)
        place(plain, self.context, Placement(b"", owner=(0, 0)))

    def forget(self, path: str) -> None:
        """Delete a file of the context, if it is there."""
        folder, name = os.path.split(path)
        try:
            parent = open_inside(self.context, folder or ".", os.O_PATH | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            with suppress(FileNotFoundError, IsADirectoryError):
                os.unlink(name, dir_fd=parent)
        finally:
            os.close(parent)

    def new_folder(self) -> Path:
        """An empty folder for whatever a step needs."""
        folder = self.folder / str(next(self._numbers))
        folder.mkdir(mode=0o700)
        return folder

    def tree(self, layers: Sequence[str]) -> int:
        """A descriptor of layers put together (topmost first), to read from while the build lasts."""
        key = tuple(layers)
        with self._lock:
            if key not in self._trees:
                self._trees[key] = open_overlay(layers)
            return self._trees[key]

    @contextmanager
    def writable(self, layers: Sequence[str]) -> Iterator[tuple[int, Path]]:
        """(descriptor of the layers with a writable one on top, that one's directory)."""
        folder = self.new_folder()
        upper, work = folder / "upper", folder / "work"
        upper.mkdir(mode=0o755)
        work.mkdir(mode=0o700)
        root = open_overlay(layers, str(upper), str(work))
        try:
            yield root, upper
        finally:
            os.close(root)

    def read_context(self, path: str, largest_bytes: int) -> bytes | None:
        """A file of the context; None if there is none. Raises InvalidParameter for a huge one."""
        try:
            descriptor = open_inside(self.context, path, os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError):
            return None
        with os.fdopen(descriptor, "rb") as file:
            content = file.read(largest_bytes + 1)
        if len(content) > largest_bytes:
            raise InvalidParameter(f"{path} is larger than {largest_bytes} bytes")
        return content

    def keep(self, descriptor: int) -> int:
        """Let a descriptor be closed with the workspace."""
        self._kept.append(descriptor)
        return descriptor

    def close(self) -> None:
        """Delete everything."""
        for descriptor in (*self._trees.values(), *self._kept):
            os.close(descriptor)
        self._trees.clear()
        self._kept.clear()
        os.close(self.context)
        shutil.rmtree(self.folder, ignore_errors=True)


def remove_leftovers(builds: Path) -> None:
    """Delete what builds of an earlier run left; only before the first one of this run."""
    for entry in builds.iterdir():
        if entry.name != MOUNTS:
            shutil.rmtree(entry, ignore_errors=True)
