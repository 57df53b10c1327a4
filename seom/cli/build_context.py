"""The context of a build as a tar stream: a folder without what .dockerignore names, or stdin.

The Dockerfile always goes along, from elsewhere or from stdin under a name of its own.
"""

from __future__ import annotations

import io
import os
import sys
import tarfile

from seom.cli.errors import CommandError
from seom.cli.image_archive import read_pieces
from seom.cli.tar_files import produce
from seom.dockerignore import IgnoreRules
from seom.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FOREIGN_NAME = ".dockerfile.from-elsewhere"
"""How a Dockerfile that is not in the context is called there."""

_ARCHIVE_HEADS = (b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")


def from_stdin(dockerfile: str) -> tuple[Iterator[bytes], str]:
    """An archive that comes on stdin as it is, or a Dockerfile without any other file."""
    if dockerfile == "-":
        raise CommandError("invalid argument: can't use stdin for both build context and dockerfile")
    head = b""
    while len(head) < 512 and (piece := os.read(0, 512 - len(head))):
        head += piece
    if head.startswith(_ARCHIVE_HEADS) or head[257:262] == b"ustar":
        return _after(head, read_pieces(0)), dockerfile or "Dockerfile"
    content = head + b"".join(read_pieces(0))
    return produce(lambda stream: _write(stream, "", IgnoreRules(), {"Dockerfile": content})), "Dockerfile"


def from_folder(folder: str, dockerfile: str, *, bare: bool = False) -> tuple[Iterator[bytes], str]:
    """A folder; with bare nothing of it but the Dockerfile and what names ignored files.

    Raises CommandError when there is no Dockerfile, or .dockerignore has a bad pattern.
    """
    if dockerfile == "-":
        content = sys.stdin.buffer.read()
        return _stream(folder, "", {FOREIGN_NAME: content}, bare=bare), FOREIGN_NAME
    path = dockerfile or os.path.join(folder, "Dockerfile")
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise CommandError(
            f"unable to prepare context: cannot read the Dockerfile {path}: {reason}; name it with -f"
        ) from None
    inside = os.path.relpath(os.path.realpath(path), os.path.realpath(folder))
    if inside.startswith("../"):
        return _stream(folder, path, {FOREIGN_NAME: content}, bare=bare), FOREIGN_NAME
    return _stream(folder, path, {}, inside, bare), inside


def _stream(
    folder: str, dockerfile: str, extra: dict[str, bytes], inside: str = "", bare: bool = False
) -> Iterator[bytes]:
    rules = _rules(folder, dockerfile)
    always = {inside, ".dockerignore"}
    if bare:
        rules = IgnoreRules("**")
        always.add(f"{inside}.dockerignore")
    return produce(lambda stream: _write(stream, folder, rules, extra, always))


def _rules(folder: str, dockerfile: str) -> IgnoreRules:
    """Those beside the Dockerfile go before those of the context."""
    for path in (f"{dockerfile}.dockerignore" if dockerfile else "", os.path.join(folder, ".dockerignore")):
        if path and os.path.isfile(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read()
            try:
                return IgnoreRules(text, os.path.basename(path))
            except InvalidParameter as error:
                raise CommandError(str(error)) from None
    return IgnoreRules()


def _after(head: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from pieces


def _write(
    stream: io.RawIOBase,
    folder: str,
    rules: IgnoreRules,
    extra: dict[str, bytes],
    always: set[str] | frozenset[str] = frozenset(),
) -> None:
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        if folder:
            _add_folder(archive, folder, "", rules, always)
        for name, content in extra.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o600
            archive.addfile(member, io.BytesIO(content))


def _add_folder(
    archive: tarfile.TarFile, folder: str, prefix: str, rules: IgnoreRules, always: set[str] | frozenset[str]
) -> None:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            name = prefix + entry.name
            ignored = rules.ignores(name) and name not in always
            is_folder = entry.is_dir(follow_symlinks=False)
            if is_folder:
                if not ignored:
                    archive.add(entry.path, name, recursive=False, filter=_without_owner)
                if not ignored or _reaches(rules, name, always):
                    _add_folder(archive, entry.path, f"{name}/", rules, always)
            elif not ignored:
                archive.add(entry.path, name, recursive=False, filter=_without_owner)


def _reaches(rules: IgnoreRules, folder: str, always: set[str] | frozenset[str]) -> bool:
    """Whether something in an ignored folder goes along."""
    return rules.may_keep_beneath(folder) or any(name.startswith(f"{folder}/") for name in always)


def _without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
