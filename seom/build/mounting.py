"""RUN --mount: what is mounted while a command runs, and what of it belongs to the step's key.

bind     files of the context, a stage or an image: a copy of them, which the command may change freely
cache    a directory that outlives the build, shared by all builds that name it
tmpfs    an empty directory in memory
secret, ssh: come with BuildKit sessions only; left out, as by BuildKit, unless they are required
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from seom.build.copying import Copier
from seom.build.dockerfile.instructions import Run
from seom.build.dockerfile.mounts import CacheSharing, Mount, MountType
from seom.build.metadata import working_directory
from seom.build.running import missing_below
from seom.build.sources import Source, digest, find, opened
from seom.build.state import State
from seom.build.threads import run_to_end
from seom.containers.container_path import open_inside
from seom.engine.mount_requests import MountPoint, tmpfs_point
from seom.errors import InvalidParameter, NotSupported

if TYPE_CHECKING:
    from seom.build.building import Building

_SCRIPT_FOLDER = "/dev/pipes"


class Mounting:
    """The mounts of one RUN."""

    def __init__(self, build: Building, mounts: Sequence[Mount], state: State, index: int) -> None:
        """index is that of the stage."""
        self._build = build
        self._index = index
        self._state = state
        self._mounts = [mount for mount in mounts if mount.type in _SUPPORTED]
        for mount in mounts:
            if mount.type not in _SUPPORTED and mount.required:
                raise NotSupported(
                    f"RUN --mount=type={mount.type},required: the classic build API has no way to hand over "
                    f"the {mount.type} {mount.id or mount.source or 'default'!r}"
                )
        self._found: dict[str, Source] = {}

    async def inputs(self) -> list[str]:
        """What the step's key must contain."""
        inputs = []
        for mount in self._mounts:
            inputs.append(
                f"{mount.type} {self._target(mount)} {mount.source} {mount.origin} {mount.read_only}"
            )
            if mount.type is MountType.BIND:
                source = await self._source(mount)
                self._found[self._target(mount)] = source
                owners = bool(mount.origin)
                inputs.append(await run_to_end(partial(digest, source, _nothing, owners)))
        return inputs

    @asynccontextmanager
    async def prepared(self, instruction: Run) -> AsyncIterator[tuple[list[MountPoint], list[str], str]]:
        """(mount points, paths made only for them, path of the script that is the command or "")."""
        async with AsyncExitStack() as stack:
            points = [await self._point(mount, stack) for mount in self._mounts]
            targets = [point.destination for point in points]
            stubs = await run_to_end(partial(self._stubs, targets))
            script = ""
            content = instruction.script
            if content is not None and content.startswith("#!"):
                name = instruction.heredocs[0].name
                script = f"{_SCRIPT_FOLDER}/{name}"
                file = await run_to_end(partial(self._write_script, name, content))
                points.append(_bind(file, script, read_only=True))
            yield points, stubs, script

    def _write_script(self, name: str, content: str) -> Path:
        file = self._build.workspace.new_folder() / name.replace("/", "_")
        file.parent.chmod(0o711)
        file.write_text(content)
        file.chmod(0o755)
        return file

    def _target(self, mount: Mount) -> str:
        target = working_directory(self._state, mount.target)
        if target == "/":
            raise InvalidParameter(f'RUN --mount=type={mount.type}: invalid mount target "/"')
        return target

    async def _source(self, mount: Mount) -> Source:
        tree = await self._build.tree_of(mount.origin, self._index)
        found = await run_to_end(partial(find, tree, mount.source or "/"))
        if len(found) != 1:
            raise InvalidParameter(
                f"RUN --mount=type=bind: no such file or directory: {mount.source}"
                + (f" in {mount.origin}" if mount.origin else " in the build context")
            )
        return found[0]

    async def _point(self, mount: Mount, stack: AsyncExitStack) -> MountPoint:
        target = self._target(mount)
        if mount.type is MountType.TMPFS:
            size = f",size={mount.size_bytes}" if mount.size_bytes else ""
            return tmpfs_point(target, f"exec,suid,dev{size}")
        if mount.type is MountType.BIND:
            location = await run_to_end(partial(self._copied, self._found[target]))
            return _bind(location, target, mount.read_only)
        folder = await self._cache_folder(mount, target, stack)
        return _bind(folder, target, mount.read_only)

    def _copied(self, source: Source) -> Path:
        folder = self._build.workspace.new_folder()
        folder.chmod(0o755)
        with opened(folder, os.O_RDONLY | os.O_DIRECTORY) as root:
            Copier(root).copy([source], "/content")
        return folder / "content"

    async def _cache_folder(self, mount: Mount, target: str, stack: AsyncExitStack) -> Path:
        name = mount.id or target
        caches = self._build.cache_mounts
        folder, is_new = await stack.enter_async_context(
            caches.use(name, locked=mount.sharing is CacheSharing.LOCKED)
        )
        if is_new:
            source = await self._source(mount) if mount.origin else None
            await run_to_end(partial(_fill, folder, mount, source))
        return folder

    def _stubs(self, targets: list[str]) -> list[str]:
        root = self._build.workspace.tree(self._build.layer_paths(self._state))
        return [path for target in targets for path in missing_below(root, target, _exists)]


_SUPPORTED = {MountType.BIND, MountType.CACHE, MountType.TMPFS}


def _fill(folder: Path, mount: Mount, source: Source | None) -> None:
    """What a new cache begins with."""
    if source is not None:
        with opened(folder, os.O_RDONLY | os.O_DIRECTORY) as root:
            Copier(root).copy([source], "/")
    os.chown(folder, mount.uid or 0, mount.gid or 0)
    folder.chmod(0o755 if mount.mode is None else mount.mode)


def _bind(source: Path, target: str, read_only: bool) -> MountPoint:
    return MountPoint(
        type="bind", destination=target, source=str(source), rw=not read_only, propagation="rprivate"
    )


def _nothing(path: str) -> bool:
    return False


def _exists(root: int, path: str) -> bool:
    try:
        os.close(open_inside(root, path, os.O_PATH))
    except OSError:
        return False
    return True
