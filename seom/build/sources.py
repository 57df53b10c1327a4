"""What COPY and ADD take: paths found in a tree of files, and the digest of what they hold.

A tree is a directory descriptor: the build context, or the root of a stage or image. The kernel looks
paths up with the tree as the root, so neither ".." nor links lead out of it.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from seom.containers.container_path import open_inside

Excluded = Callable[[str], bool]
"""Whether a path, relative to what is copied, is left out."""

_MAGIC = re.compile(r"[*?\[\\]")
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """One path to copy: tree, path inside (empty for the tree itself), and what is there.

    pivot is the beginning of the path that --parents leaves out.
    """

    tree: int
    path: str
    is_directory: bool
    pivot: str = ""

    @property
    def name(self) -> str:
        """How the copy is called."""
        return posixpath.basename(self.path)


def find(tree: int, pattern: str) -> list[Source]:
    """What a path with wildcards (those of Go's filepath.Match, and **) means; empty if nothing.

    Raises OSError (ELOOP, EACCES).
    """
    whole = posixpath.normpath("/" + pattern).lstrip("/")
    before, separator, after = pattern.partition("/./")
    pivot = posixpath.normpath("/" + before).lstrip("/") if separator and after else ""
    paths = _match(tree, "", whole.split("/") if whole else [])
    return [Source(tree, path, kind, pivot) for path in paths if (kind := _kind(tree, path)) is not None]


def _kind(tree: int, path: str) -> bool | None:
    """Whether a path (of a link: what it names) is a directory; None if nothing is there."""
    try:
        descriptor = open_inside(tree, path or ".", os.O_PATH)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return stat.S_ISDIR(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def _match(tree: int, done: str, parts: list[str]) -> Iterator[str]:
    if not parts:
        yield done
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _match_any_depth(tree, done, rest)
    elif not _MAGIC.search(part):
        yield from _match(tree, posixpath.join(done, part), rest)
    else:
        wanted = wildcard(part)
        for name in _names(tree, done):
            if wanted.fullmatch(name):
                yield from _match(tree, posixpath.join(done, name), rest)


def _match_any_depth(tree: int, done: str, rest: list[str]) -> Iterator[str]:
    if rest:
        yield from _match(tree, done, rest)
    for name in _names(tree, done):
        inner = posixpath.join(done, name)
        if not rest:
            yield inner
        elif _is_real_directory(tree, inner):
            yield from _match_any_depth(tree, inner, rest)


def _is_real_directory(tree: int, path: str) -> bool:
    descriptor = open_inside(tree, path, os.O_PATH | os.O_NOFOLLOW)
    try:
        return stat.S_ISDIR(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def _names(tree: int, path: str) -> list[str]:
    try:
        directory = open_inside(tree, path or ".", os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return []
    try:
        return sorted(os.listdir(directory))
    finally:
        os.close(directory)


def wildcard(pattern: str) -> re.Pattern[str]:
    """One name's pattern: * and ? and [a-z] or [^a-z], the backslash takes away a meaning."""
    text, position = "", 0
    while position < len(pattern):
        character = pattern[position]
        end = pattern.find("]", position + 2) if character == "[" else -1
        if character == "\\" and position + 1 < len(pattern):
            position += 1
            text += re.escape(pattern[position])
        elif end > 0:
            inside = pattern[position + 1 : end].replace("\\", "\\\\").replace("[", "\\[")
            text += f"[{inside}]"
            position = end
        else:
            text += {"*": ".*", "?": "."}.get(character, re.escape(character))
        position += 1
    return re.compile(text, re.DOTALL)


# Digests


def digest(source: Source, excluded: Excluded, owners: bool) -> str:
    """The digest of names, kinds, modes, links and bytes (and owners) of a source; times do not count."""
    hasher = hashlib.sha256()
    descriptor = open_inside(source.tree, source.path or ".", os.O_PATH)
    try:
        status = os.fstat(descriptor)
        hasher.update(_head("", status, owners and not source.is_directory))
        if source.is_directory:
            with reopened(descriptor, os.O_RDONLY | os.O_DIRECTORY) as directory:
                _add_directory(hasher, directory, "", excluded, owners)
        elif stat.S_ISREG(status.st_mode):
            with reopened(descriptor, os.O_RDONLY) as file:
                _add_content(hasher, file)
    finally:
        os.close(descriptor)
    return hasher.hexdigest()


@contextmanager
def opened(path: str | Path, flags: int) -> Iterator[int]:
    """A descriptor for the time of the with block."""
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def reopened(descriptor: int, flags: int) -> AbstractContextManager[int]:
    """What an O_PATH descriptor means, opened for use."""
    return opened(f"/proc/self/fd/{descriptor}", flags)


def _add_directory(
    hasher: hashlib._Hash, directory: int, prefix: str, excluded: Excluded, owners: bool
) -> None:
    for name in sorted(os.listdir(directory)):
        path = prefix + name
        if excluded(path):
            continue
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        hasher.update(_head(path, status, owners))
        if stat.S_ISLNK(status.st_mode):
            hasher.update(os.fsencode(os.readlink(name, dir_fd=directory)) + b"\0")
        elif stat.S_ISDIR(status.st_mode):
            inner = os.open(
                name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory
            )
            try:
                _add_directory(hasher, inner, path + "/", excluded, owners)
            finally:
                os.close(inner)
        elif stat.S_ISREG(status.st_mode):
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            try:
                _add_content(hasher, file)
            finally:
                os.close(file)


def _head(path: str, status: os.stat_result, owners: bool) -> bytes:
    owner = (status.st_uid, status.st_gid) if owners else (0, 0)
    size = status.st_size if stat.S_ISREG(status.st_mode) else 0
    return b"%s\0%o %d %d %d %d\0" % (
        os.fsencode(path),
        status.st_mode,
        *owner,
        status.st_rdev if stat.S_ISCHR(status.st_mode) else 0,
        size,
    )


def _add_content(hasher: hashlib._Hash, file: int) -> None:
    while chunk := os.read(file, _CHUNK_BYTES):
        hasher.update(chunk)
