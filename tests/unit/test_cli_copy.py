"""Unpacking what a container gave: placed as asked, and never outside."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from seom.cli import copy, tar_files
from seom.cli.errors import CommandError


def archive(*members: tuple[str, bytes | str | None]) -> list[bytes]:
    """A tar of (name, bytes: a file; None: a folder; "s:TEXT" a symlink, "h:NAME" a hard link)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if content is None:
                member.type, member.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(content, str):
                member.type = tarfile.SYMTYPE if content[0] == "s" else tarfile.LNKTYPE
                member.linkname = content[2:]
            else:
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    return [buffer.getvalue()]


TREE = (("top/", None), ("top/a", b"A"), ("top/sub/", None), ("top/sub/b", b"B"), ("top/hard", "h:top/a"))


def test_a_copy_takes_the_targets_name_when_it_is_new(tmp_path: Path) -> None:
    copied = tar_files.extract(archive(*TREE), "/x/top", str(tmp_path / "new"), "", ownership=False)
    assert copied == 2
    assert (tmp_path / "new/sub/b").read_bytes() == b"B"
    assert (tmp_path / "new/hard").samefile(tmp_path / "new/a")


def test_a_copy_goes_inside_an_existing_folder(tmp_path: Path) -> None:
    tar_files.extract(archive(*TREE), "/x/top", str(tmp_path), "", ownership=False)
    assert (tmp_path / "top/a").read_bytes() == b"A"
    tar_files.extract(archive(*TREE), "/x/top/.", str(tmp_path), "", ownership=False)
    assert (tmp_path / "sub/b").read_bytes() == b"B"
    tar_files.extract(archive(*TREE), "/x/target", str(tmp_path), "link", ownership=False)
    assert (tmp_path / "link/a").read_bytes() == b"A"


def test_a_file_replaces_a_link_and_does_not_write_through_it(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("mine")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a").symlink_to(tmp_path / "outside")
    tar_files.extract(archive(("a", b"theirs")), "/a", str(tmp_path / "in"), "", ownership=False)
    assert (tmp_path / "outside").read_text() == "mine"
    assert (tmp_path / "in/a").read_text() == "theirs"


@pytest.mark.parametrize(
    "members",
    [
        (("top/", None), ("top/out", "s:/tmp"), ("top/out/x", b"bad")),
        (("top/", None), ("top/out", "s:.."), ("top/out/x", b"bad")),
        (("top/", None), ("top/../../x", b"bad")),
        (("top/", None), ("top/x", "h:top/../../secret")),
    ],
    ids=["absolute link", "relative link", "dots", "hard link"],
)
def test_an_archive_cannot_leave_the_target(
    tmp_path: Path, members: tuple[tuple[str, bytes | str | None], ...]
) -> None:
    (tmp_path / "secret").write_text("s")
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(CommandError):
        tar_files.extract(archive(*members), "/top", str(target), "", ownership=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret", "target"]


def test_what_is_packed_can_be_unpacked(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub/file").write_bytes(b"x" * 100_000)
    pieces, counted = tar_files.pack(str(source), "")
    tar_files.extract(pieces, "/source", str(tmp_path / "copy"), "", ownership=True)
    assert counted == [100_000]
    assert (tmp_path / "copy/sub/file").read_bytes() == b"x" * 100_000


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("web:/etc", ("web", "/etc")),
        ("/a:b", ("", "/a:b")),
        ("./a:b", ("", "./a:b")),
        ("file", ("", "file")),
        ("-", ("", "-")),
        ("web:", ("web", "")),
    ],
)
def test_places(text: str, place: tuple[str, str]) -> None:
    assert copy.split_place(text) == place
