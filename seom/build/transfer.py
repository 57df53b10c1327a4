"""COPY and ADD: what they take, the key that follows from it, and the layer it makes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from seom.build.copying import Copier, Rules
from seom.build.dockerfile.instructions import Add, Copy
from seom.build.download import Download, download, is_url
from seom.build.git import Checkout, checkout, is_git
from seom.build.metadata import working_directory
from seom.build.modes import parse_mode
from seom.build.narration import Chapter
from seom.build.sources import Excluded, Source, digest, find, reopened
from seom.build.state import Change, State
from seom.build.threads import run_to_end
from seom.containers.container_path import open_inside
from seom.containers.user import resolve_user
from seom.errors import InvalidParameter
from seom.storage.layers import Layer
from seom.storage.streams import PLAIN, compression_of, decompressed
from seom.storage.unpack import Placement, place

if TYPE_CHECKING:
    from seom.build.building import Building

_USTAR_OFFSET = 257
_HEAD_BYTES = 512


class Transfer:
    """One COPY or ADD, expanded."""

    def __init__(
        self, build: Building, instruction: Copy | Add, state: State, index: int, chapter: Chapter
    ) -> None:
        """index is that of the stage."""
        self._build = build
        self._index = index
        self._instruction = instruction
        self._state = state
        self._chapter = chapter
        self._origin = instruction.origin if isinstance(instruction, Copy) else ""
        self._adds = isinstance(instruction, Add)
        self._mode = parse_mode(instruction.chmod) if instruction.chmod else None
        self._excluded: Excluded = build.excluder(instruction.exclude)
        self._sources: list[Source] = []
        self._downloads: list[Download] = []
        self._checkouts: list[Checkout] = []
        self._documents: list[tuple[str, bytes]] = []

    async def prepare(self) -> tuple[Change, Callable[[], Awaitable[Layer | None]]]:
        """Find the sources. Raises InvalidParameter in Docker's words when there are none."""
        instruction = self._instruction
        for document in instruction.documents:
            self._documents.append((document.name, document.content.encode()))
        paths = [source for source in instruction.sources if not self._is_remote(source)]
        for source in instruction.sources:
            if self._is_remote(source):
                await self._fetch(source)
        tree = await self._build.tree_of(self._origin, self._index)
        self._sources = await run_to_end(lambda: self._find(tree, paths))
        self._check_destination()
        digests = await run_to_end(self._digests)
        return Change(self._state.config, self._text(), inputs=tuple(digests)), self._make

    def _is_remote(self, source: str) -> bool:
        return isinstance(self._instruction, Add) and (is_git(source) or is_url(source))

    async def _fetch(self, source: str) -> None:
        instruction, workspace = self._instruction, self._build.workspace
        assert isinstance(instruction, Add)
        if is_git(source):
            keep = instruction.keep_git_dir
            if keep is None:
                keep = self._build.given.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR", "") in ("1", "true")
            self._checkouts.append(await checkout(source, workspace, instruction.checksum, keep))
        else:
            report = self._chapter.message
            self._downloads.append(await download(source, workspace, instruction.checksum, report))

    def _find(self, tree: int, patterns: list[str]) -> list[Source]:
        found: list[Source] = []
        for pattern in patterns:
            matches = find(tree, pattern)
            if not matches:
                raise InvalidParameter(self._missing(pattern))
            found += matches
        return found

    def _missing(self, pattern: str) -> str:
        keyword = self._instruction.keyword
        if self._origin:
            return f"{keyword} failed: stat {pattern}: file does not exist in {self._origin}"
        if any(character in pattern for character in "*?["):
            return f"{keyword} failed: no source files were specified"
        return (
            f"{keyword} failed: file not found in build context or excluded by .dockerignore: "
            f"stat {pattern}: file does not exist"
        )

    def _check_destination(self) -> None:
        count = len(self._sources) + len(self._downloads) + len(self._documents)
        if count > 1 and not self._wants_directory and not all(each.is_directory for each in self._sources):
            raise InvalidParameter(
                f"When using {self._instruction.keyword} with more than one source file, the destination "
                "must be a directory and end with a /"
            )

    @property
    def _wants_directory(self) -> bool:
        written = self._instruction.destination
        return written.endswith(("/", "/.")) or written in (".", "..")

    def _destination(self) -> str:
        """Absolute; a slash at the end stays, because it asks for a directory."""
        path = working_directory(self._state, self._instruction.destination)
        return path if path == "/" or not self._wants_directory else path + "/"

    def _digests(self) -> list[str]:
        owners = bool(self._origin)
        return [
            *(f"{source.path} {digest(source, self._excluded, owners)}" for source in self._sources),
            *(f"{each.name} {each.digest}" for each in self._downloads),
            *(each.digest for each in self._checkouts),
            *(f"{name} {hashlib.sha256(content).hexdigest()}" for name, content in self._documents),
            f"{self._destination()} {' '.join(self._instruction.exclude)}",
        ]

    def _text(self) -> str:
        instruction = self._instruction
        flags = [
            f"--from={self._origin}" if self._origin else "",
            f"--chown={instruction.chown}" if instruction.chown else "",
            f"--chmod={instruction.chmod}" if instruction.chmod else "",
            "--link" if instruction.link else "",
            "--parents" if isinstance(instruction, Copy) and instruction.parents else "",
        ]
        if isinstance(instruction, Add) and instruction.unpack is not None:
            flags.append(f"--unpack={str(instruction.unpack).lower()}")
        documents = [f"<<{name}" for name, _ in self._documents]
        words = [*filter(None, flags), *instruction.sources, *documents, instruction.destination]
        return f"{instruction.keyword} {' '.join(words)}"

    async def _make(self) -> Layer | None:
        return await run_to_end(self._copy)

    def _copy(self) -> Layer | None:
        layers = self._build.layer_paths(self._state)
        owner = _owner(self._instruction.chown, layers)
        rules = Rules(owner, self._mode, self._excluded)
        parents = isinstance(self._instruction, Copy) and self._instruction.parents
        destination = self._destination()

        def fill(copier: Copier) -> None:
            for source in self._sources:
                if not self._unpack(source, copier, destination, owner):
                    copier.copy([source], destination, parents)
            copier.copy([each.source for each in self._checkouts], destination)
            for each in self._downloads:
                self._place_download(each, copier, destination, owner)
            for name, content in self._documents:
                copier.write(content, destination, name)

        return self._build.change_files(self._state, fill, rules)

    def _unpack(
        self, source: Source, copier: Copier, destination: str, owner: tuple[int, int] | None
    ) -> bool:
        """Extract a local archive; false for what is none."""
        if not isinstance(self._instruction, Add) or self._instruction.unpack is False or source.is_directory:
            return False
        return self._extract(source.tree, source.path, copier, destination, owner)

    def _extract(
        self, tree: int, path: str, copier: Copier, destination: str, owner: tuple[int, int] | None
    ) -> bool:
        found = open_inside(tree, path, os.O_PATH)
        try:
            with reopened(found, os.O_RDONLY) as file, os.fdopen(os.dup(file), "rb") as stream:
                if not _is_archive(stream.read(_HEAD_BYTES)):
                    return False
                stream.seek(0)
                os.close(copier.make_directories(destination))
                _, plain = decompressed(stream)
                place(plain, copier.root, Placement(os.fsencode(destination.strip("/")), owner))
                return True
        finally:
            os.close(found)

    def _place_download(
        self, each: Download, copier: Copier, destination: str, owner: tuple[int, int] | None
    ) -> None:
        unpack = isinstance(self._instruction, Add) and self._instruction.unpack is True
        if unpack and self._extract(each.tree, each.name, copier, destination, owner):
            return
        if not each.named and destination.endswith("/"):
            raise InvalidParameter(f"cannot determine filename for source {each.url}")
        copier.copy([Source(each.tree, each.name, False)], destination)


def _is_archive(head: bytes) -> bool:
    if compression_of(head[:6]) != PLAIN:
        return True
    return head[_USTAR_OFFSET : _USTAR_OFFSET + 5] == b"ustar"


def _owner(chown: str, layers: list[str]) -> tuple[int, int] | None:
    """The ids of --chown, names looked up in the stage; a missing group is that of the same number."""
    if not chown:
        return None
    name, separator, group = chown.partition(":")
    user = resolve_user(chown if not separator or group else name, layers).user
    if not separator and name.isdecimal():
        return user.uid, int(name)
    return user.uid, user.gid
