"""--squash: what the layers of a build change, applied one after another to one new layer."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence

from seom.build.copying import Copier
from seom.build.sources import opened
from seom.containers.container_path import open_inside
from seom.storage.unpack import OPAQUE_ATTRIBUTE, is_whiteout


def apply_layers(copier: Copier, layers: Sequence[str]) -> None:
    """Apply unpacked layers, the lowest first, to the copier's root. Blocks. Raises OSError."""
    applier = _Applier(copier.root)
    for layer in layers:
        root = open_inside(applier.root, "/", os.O_PATH | os.O_DIRECTORY)
        try:
            with opened(layer, os.O_RDONLY | os.O_DIRECTORY) as directory:
                applier.copy_content(directory, root, "")
        finally:
            os.close(root)


class _Applier(Copier):
    """Copies a layer over what is there: whiteouts delete, and anything replaces anything else."""

    def _inner_directory(self, directory: int, target: int, name: str, path: str) -> None:
        try:
            old = os.lstat(name, dir_fd=target)
        except FileNotFoundError:
            pass
        else:
            if not stat.S_ISDIR(old.st_mode) or _is_opaque(directory, name):
                self._clear(target, name)
        super()._inner_directory(directory, target, name, path)

    def _special(self, status: os.stat_result, parent: int, name: str) -> None:
        if not is_whiteout(status):
            super()._special(status, parent, name)

    def _clear(self, parent: int, name: str) -> None:
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            return
        except IsADirectoryError:
            shutil.rmtree(name, dir_fd=parent)


def _is_opaque(directory: int, name: str) -> bool:
    try:
        return os.getxattr(f"/proc/self/fd/{directory}/{name}", OPAQUE_ATTRIBUTE) == b"y"
    except OSError:
        return False
