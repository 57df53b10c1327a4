"""Putting files into a stage's root, by the rules of COPY and ADD.

The root is a detached overlay: what is written lands in its upper directory, which becomes a layer.
Every path is looked up by the kernel with the root as the root.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from contextlib import suppress
from dataclasses import dataclass

from seom.build.modes import Mode
from seom.build.sources import Excluded, Source, reopened
from seom.containers.container_path import open_inside
from seom.errors import InvalidParameter

_MOST_LINKS = 40
_CHUNK_BYTES = 1 << 24
_KEPT_ATTRIBUTES = ("security.capability", "user.")

Owner = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Rules:
    """How files change on their way: owner and mode are kept where None; excluded stay behind."""

    owner: Owner | None = None
    mode: Mode | None = None
    excluded: Excluded = lambda path: False


class Copier:
    """Copies into one root. Blocks. Raises InvalidParameter for what cannot be, OSError for the disk."""

    def __init__(self, root: int, rules: Rules = Rules()) -> None:
        self.root = root
        self._rules = rules
        self._links: dict[tuple[int, int], str] = {}

    def copy(self, sources: list[Source], destination: str, parents: bool = False) -> None:
        """All sources to an absolute destination; one that ends in a slash is a directory."""
        for source in sources:
            if parents:
                self._copy_with_parents(source, destination)
            elif source.is_directory:
                if not self.rules_exclude(""):
                    self._copy_directory(source, destination)
            elif not self.rules_exclude(source.name):
                self._copy_file(source, self._target(destination, source.name))

    def rules_exclude(self, path: str) -> bool:
        """Whether a source as a whole is left out."""
        return bool(path) and self._rules.excluded(path)

    def write(self, content: bytes, destination: str, name: str, mode: int = 0o644) -> None:
        """A file with this content; name is used when the destination is a directory."""
        parent, final = self._parent_of(self._target(destination, name))
        try:
            self._clear(parent, final)
            file = os.open(final, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=parent)
            with os.fdopen(file, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fchown(file, *(self._rules.owner or (0, 0)))
                os.fchmod(file, self._rules.mode(mode, False) if self._rules.mode else mode)
        finally:
            os.close(parent)

    def make(self, path: str) -> None:
        """mkdir -p inside the root."""
        os.close(self.make_directories(path))

    def make_directories(self, path: str) -> int:
        """mkdir -p inside the root; returns a descriptor of the last one."""
        os.close(self._make(path, self._rules.owner or (0, 0), 0))
        return open_inside(self.root, path, os.O_PATH | os.O_DIRECTORY)

    def _copy_with_parents(self, source: Source, destination: str) -> None:
        kept = posixpath.relpath(source.path or ".", source.pivot or ".")
        target = posixpath.join(destination, kept)
        if source.is_directory:
            self._copy_directory(source, target)
        elif not self.rules_exclude(kept):
            self._copy_file(source, target)

    def _target(self, destination: str, name: str) -> str:
        """The path of a file's copy: in the destination if that is a directory, else the destination."""
        if destination.endswith(("/", "/.")) or self._is_directory(destination):
            return posixpath.join(destination, name)
        return destination

    def _is_directory(self, path: str) -> bool:
        try:
            os.close(open_inside(self.root, path, os.O_PATH | os.O_DIRECTORY))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def _copy_file(self, source: Source, target: str) -> None:
        found = open_inside(source.tree, source.path, os.O_PATH)
        parent, name = self._parent_of(target)
        try:
            status = os.fstat(found)
            self._clear(parent, name)
            if stat.S_ISREG(status.st_mode):
                with reopened(found, os.O_RDONLY) as file:
                    self._regular(file, status, parent, name)
            else:
                self._special(status, parent, name)
        finally:
            os.close(found)
            os.close(parent)

    def _copy_directory(self, source: Source, destination: str) -> None:
        existed = self._is_directory(destination)
        found = open_inside(source.tree, source.path or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            target = self.make_directories(destination)
            try:
                self.copy_content(found, target, "")
                if not existed:
                    self._finish(f"/proc/self/fd/{target}", os.fstat(found), attributes_of=found, follow=True)
            finally:
                os.close(target)
        finally:
            os.close(found)

    def copy_content(self, directory: int, target: int, prefix: str) -> None:
        """All entries of one directory into another; prefix is the way to them from what is copied."""
        for name in sorted(os.listdir(directory)):
            path = prefix + name
            if self._rules.excluded(path):
                continue
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                self._inner_directory(directory, target, name, path)
                continue
            self._clear(target, name)
            if stat.S_ISREG(status.st_mode):
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
                try:
                    self._regular(file, status, target, name)
                finally:
                    os.close(file)
            elif stat.S_ISLNK(status.st_mode):
                os.symlink(os.readlink(name, dir_fd=directory), name, dir_fd=target)
                self._finish(f"/proc/self/fd/{target}/{name}", status)
            else:
                self._special(status, target, name)

    def _inner_directory(self, directory: int, target: int, name: str, path: str) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            os.mkdir(name, 0o755, dir_fd=target)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(name, dir_fd=target).st_mode):
                raise InvalidParameter(
                    f"cannot copy to non-directory: /{path}; the root has a file or link there"
                ) from None
        inner = os.open(name, flags, dir_fd=directory)
        try:
            made = os.open(name, flags, dir_fd=target)
            try:
                self.copy_content(inner, made, path + "/")
                self._finish(f"/proc/self/fd/{made}", os.fstat(inner), attributes_of=inner, follow=True)
            finally:
                os.close(made)
        finally:
            os.close(inner)

    def _regular(self, file: int, status: os.stat_result, parent: int, name: str) -> None:
        if self._link(status, parent, name):
            return
        made = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=parent)
        try:
            while os.sendfile(made, file, None, _CHUNK_BYTES):
                pass
            self._finish(f"/proc/self/fd/{made}", status, attributes_of=file, follow=True)
            if status.st_nlink > 1:
                self._links[status.st_dev, status.st_ino] = self._path_of(made)
        finally:
            os.close(made)

    def _path_of(self, descriptor: int) -> str:
        """A file's path from the root."""
        shown_root = os.readlink(f"/proc/self/fd/{self.root}").rstrip("/")
        return os.readlink(f"/proc/self/fd/{descriptor}").removeprefix(shown_root)

    def _link(self, status: os.stat_result, parent: int, name: str) -> bool:
        """Names of one file stay names of one file."""
        first = self._links.get((status.st_dev, status.st_ino)) if status.st_nlink > 1 else None
        if first is None:
            return False
        folder = open_inside(self.root, posixpath.dirname(first), os.O_PATH | os.O_DIRECTORY)
        try:
            os.link(
                posixpath.basename(first), name, src_dir_fd=folder, dst_dir_fd=parent, follow_symlinks=False
            )
        finally:
            os.close(folder)
        return True

    def _special(self, status: os.stat_result, parent: int, name: str) -> None:
        if stat.S_ISSOCK(status.st_mode):
            return
        os.mknod(name, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=parent)
        self._finish(f"/proc/self/fd/{parent}/{name}", status)

    def _finish(
        self, path: str, status: os.stat_result, attributes_of: int | None = None, follow: bool = False
    ) -> None:
        """Owner, mode, attributes and time of a copy; path is a magic link to it when follow is set."""
        rules = self._rules
        owner = rules.owner or (status.st_uid, status.st_gid)
        os.chown(path, *owner, follow_symlinks=follow)
        if not stat.S_ISLNK(status.st_mode):
            mode = stat.S_IMODE(status.st_mode)
            os.chmod(path, rules.mode(mode, stat.S_ISDIR(status.st_mode)) if rules.mode else mode)
        if attributes_of is not None:
            _copy_attributes(attributes_of, path)
        os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns), follow_symlinks=follow)

    def _clear(self, parent: int, name: str) -> None:
        """Make room for a file."""
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            return
        except IsADirectoryError as error:
            raise InvalidParameter(
                f"cannot copy a file over the directory {name}; end the destination with a slash to copy "
                "into it"
            ) from error

    # Directories

    def _parent_of(self, path: str) -> tuple[int, str]:
        """A descriptor of the directory a path lies in, made where missing; a link at its end is followed."""
        for _ in range(_MOST_LINKS):
            directory, name = posixpath.split(path)
            parent = self.make_directories(directory or "/")
            try:
                target = os.readlink(name, dir_fd=parent)
            except OSError:
                return parent, name
            os.close(parent)
            path = posixpath.join(directory, target)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)

    def _make(self, path: str, owner: Owner, links: int) -> int:
        done = "/"
        here = open_inside(self.root, done, os.O_PATH | os.O_DIRECTORY)
        for name in [part for part in path.split("/") if part not in ("", ".")]:
            outer, done = here, posixpath.join(done, name)
            try:
                here = self._step(outer, name, done, owner, links)
            finally:
                os.close(outer)
        return here

    def _step(self, parent: int, name: str, path: str, owner: Owner, links: int) -> int:
        try:
            return open_inside(self.root, path, os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            pass
        except NotADirectoryError as error:
            raise InvalidParameter(f"cannot make the directory {path}: a file is there") from error
        with suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=parent)
            os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)
            return open_inside(self.root, path, os.O_PATH | os.O_DIRECTORY)
        if links >= _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        target = posixpath.join(posixpath.dirname(path), os.readlink(name, dir_fd=parent))
        os.close(self._make(target, owner, links + 1))
        return open_inside(self.root, path, os.O_PATH | os.O_DIRECTORY)


def _copy_attributes(source: int, path: str) -> None:
    try:
        names = os.listxattr(source)
    except OSError:
        return
    for name in names:
        if name.startswith(_KEPT_ATTRIBUTES):
            with suppress(OSError):
                os.setxattr(path, name, os.getxattr(source, name))
