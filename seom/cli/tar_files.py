"""Between tar streams and this machine's files, for `cp`.

Unpacking trusts nothing: names that leave the target are refused by tarfile's "tar" filter, and
every path is checked to lie inside the target.
"""

from __future__ import annotations

import io
import os
import queue
import tarfile
import threading

from seom.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_PIECE_BYTES = 262144


class _Pieces(io.RawIOBase):
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
    with tarfile.open(fileobj=_Pieces(pieces), mode="r|") as archive:
        root = ""
        for member in archive:
            if not root:
                root = member.name.strip("/").split("/")[0]
                _check_root(member, target, into_folder)
            name = member.name.strip("/")
            rest = name[len(root) :].lstrip("/") if root != "." else name.removeprefix("./")
            top = "." if into_folder and contents_only else rebase or root
            if not into_folder:
                top = os.path.basename(target.rstrip("/"))
            member.name = os.path.normpath(os.path.join(top, rest))
            if member.islnk():
                linked = member.linkname.strip("/")[len(root) :].lstrip("/")
                member.linkname = os.path.normpath(os.path.join(top, linked))
            copied += member.size
            _extract_member(archive, member, folder, ownership)
    return copied


def _check_root(member: tarfile.TarInfo, target: str, into_folder: bool) -> None:
    if member.isdir() and os.path.exists(target) and not into_folder:
        raise CommandError("cannot copy directory")


def _extract_member(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: str, ownership: bool) -> None:
    if member.name == ".":
        return
    try:
        safe = tarfile.tar_filter(member, os.path.realpath(folder))
        if not ownership or os.geteuid() != 0:
            safe = safe.replace(uid=os.getuid(), gid=os.getgid(), uname="", gname="", deep=False)
        path = os.path.join(folder, safe.name)
        if os.path.lexists(path) and not (safe.isdir() and os.path.isdir(path)):
            os.unlink(path)
        archive.extract(safe, folder, numeric_owner=True, filter="fully_trusted")
    except tarfile.FilterError as error:
        raise CommandError(f"refused a path in the archive that leads out of the target: {error}") from None


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

    return _produce(write), counted


class _Queue(io.RawIOBase):
    def __init__(self, pieces: queue.Queue[bytes | BaseException | None]) -> None:
        self._queue = pieces

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self._queue.put(piece)
        return len(piece)


def _produce(write: Callable[[io.RawIOBase], None]) -> Iterator[bytes]:
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
