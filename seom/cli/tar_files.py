"""Between tar streams and this machine's files, for `cp`.

Unpacking trusts nothing in the archive: it goes by descriptors from the target down, follows no
link, and refuses "..".
"""

from __future__ import annotations

import io
import os
import queue
import shutil
import stat
import tarfile
import threading

from seom.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_PIECE_BYTES = 262144


class Pieces(io.RawIOBase):
    """A readable file over pieces of bytes."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while size < 0 or len(self._rest) < size:
            piece = next(self._pieces, b"")
            if not piece:
                break
            self._rest += piece
        wanted = len(self._rest) if size < 0 else size
        data, self._rest = self._rest[:wanted], self._rest[wanted:]
        return data


def extract(pieces: Iterable[bytes], source: str, target: str, rebase: str, *, ownership: bool) -> int:
    """Unpack the copy of source to target, as `cp -a` would place it; returns the files' bytes.

    A target that is a folder receives the copy inside; otherwise the copy gets target's name.
    rebase is the name under which the source was asked for, when it was a link.
    """
    contents_only = source.endswith("/.")
    into_folder = os.path.isdir(target)
    if target.endswith("/") and not into_folder and not contents_only:
        raise CommandError(f'destination directory "{target}" does not exist; make it first')
    folder = target if into_folder else os.path.dirname(os.path.abspath(target))
    copied = 0
    with tarfile.open(fileobj=Pieces(pieces), mode="r|") as archive, Destination(folder, ownership) as place:
        root = top = ""
        for member in archive:
            if not root:
                root = member.name.strip("/").split("/")[0]
                if member.isdir() and os.path.exists(target) and not into_folder:
                    raise CommandError("cannot copy directory")
                top = "" if contents_only else rebase or root
                if not into_folder:
                    top = os.path.basename(target.rstrip("/"))
            link = _rebase(member.linkname, root, top) if member.islnk() else member.linkname
            place.put(archive, member, _rebase(member.name, root, top), link)
            copied += member.size
    return copied


def _rebase(name: str, root: str, top: str) -> str:
    """The archive's path with its first part exchanged."""
    first, _, rest = name.strip("/").partition("/")
    return f"{top}/{rest}" if first == root else f"{top}/{name}"


class Destination:
    """A folder that files are unpacked into, by descriptors: no link on the way is followed."""

    def __init__(self, folder: str, ownership: bool) -> None:
        self._root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self._ownership = ownership and os.geteuid() == 0
        self._folders: list[tuple[str, tarfile.TarInfo]] = []

    def __enter__(self) -> Destination:
        return self

    def __exit__(self, *error: object) -> None:
        for path, member in reversed(self._folders):
            parent, name = self._parent(path)
            self._finish(parent, name, member)
            os.close(parent)
        os.close(self._root)

    def put(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: str, link: str) -> None:
        """Make one member at path; link is where a hard link's other name is, or a symlink's text.

        Raises CommandError for a path that leads out of the folder, OSError.
        """
        if not path.strip("/."):
            return
        parent, name = self._parent(path)
        try:
            if member.isdir():
                self._make_folder(parent, name)
                self._folders.append((path, member))
                return
            self._clear(parent, name)
            self._make(archive, member, parent, name, link)
            self._finish(parent, name, member)
        finally:
            os.close(parent)

    def _parent(self, path: str) -> tuple[int, str]:
        """A descriptor of the folder that holds path, made if needed, and the last part's name."""
        *folders, name = [part for part in path.split("/") if part not in ("", ".")]
        if ".." in (*folders, name):
            raise CommandError(f"refused a path in the archive that leads out of the target: {path}")
        descriptor = os.dup(self._root)
        for folder in folders:
            try:
                self._make_folder(descriptor, folder)
                following = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
            except OSError as error:
                raise CommandError(f"cannot unpack {path}: {folder}: {error.strerror}") from None
            finally:
                os.close(descriptor)
            descriptor = following
        return descriptor, name

    def _make_folder(self, parent: int, name: str) -> None:
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                raise

    def _clear(self, parent: int, name: str) -> None:
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            raise CommandError(f"cannot overwrite the directory {name} with a file") from None

    def _make(
        self, archive: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str, link: str
    ) -> None:
        if member.issym():
            os.symlink(link, name, dir_fd=parent)
        elif member.islnk():
            other, other_name = self._parent(link)
            os.link(other_name, name, src_dir_fd=other, dst_dir_fd=parent, follow_symlinks=False)
            os.close(other)
        elif member.isfifo():
            os.mkfifo(name, 0o600, dir_fd=parent)
        elif member.isdev():
            kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
            os.mknod(name, kind | 0o600, os.makedev(member.devmajor, member.devminor), dir_fd=parent)
        elif (content := archive.extractfile(member)) is not None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with open(os.open(name, flags, 0o600, dir_fd=parent), "wb") as file:
                shutil.copyfileobj(content, file, _PIECE_BYTES)

    def _finish(self, parent: int, name: str, member: tarfile.TarInfo) -> None:
        """Owner, mode and time; links have no mode."""
        if self._ownership:
            os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
        if not (member.issym() or member.islnk()):
            os.chmod(name, member.mode & 0o7777, dir_fd=parent)
        if not member.islnk():
            os.utime(name, (member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)


def pack(source: str, name: str) -> tuple[Iterator[bytes], list[int]]:
    """A tar stream of a path, its top named `name` ("" keeps the source's name, "." the content only).

    The second value is a list whose only item counts the files' bytes as they are packed.
    """
    counted = [0]
    path = source.rstrip("/") or "/"
    top = name or os.path.basename(os.path.abspath(path))

    def write(stream: io.RawIOBase) -> None:
        def count(member: tarfile.TarInfo) -> tarfile.TarInfo:
            counted[0] += member.size
            return member

        with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            archive.add(
                path + ("/." if source.endswith("/") and os.path.isdir(path) else ""), top, filter=count
            )

    return produce(write), counted


class _Queue(io.RawIOBase):
    def __init__(self, pieces: queue.Queue[bytes | BaseException | None]) -> None:
        self._queue = pieces

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self._queue.put(piece)
        return len(piece)


def produce(write: Callable[[io.RawIOBase], None]) -> Iterator[bytes]:
    """Pieces of what a function writes, made by a thread that is never far ahead."""
    pieces: queue.Queue[bytes | BaseException | None] = queue.Queue(maxsize=16)

    def work() -> None:
        try:
            write(_Queue(pieces))
            pieces.put(None)
        except BaseException as error:
            pieces.put(error)

    threading.Thread(target=work, daemon=True).start()
    while (piece := pieces.get()) is not None:
        if isinstance(piece, BaseException):
            raise piece
        yield piece
