"""What COPY takes and how it puts it there, on plain directories."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from seom.build.copying import Copier, Rules
from seom.build.modes import parse_mode
from seom.build.sources import Source, digest, find, opened
from seom.errors import InvalidParameter


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[int]:
    for name in ("a.txt", "b.txt", "dir/c.txt", "dir/deep/d.txt", "[x]"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    with opened(tmp_path / "tree", os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        yield descriptor


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "root").mkdir()
    with opened(tmp_path / "root", os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        yield descriptor


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.txt", ["a.txt"]),
        ("/a.txt", ["a.txt"]),
        ("../../a.txt", ["a.txt"]),
        (".", [""]),
        ("*.txt", ["a.txt", "b.txt"]),
        ("?.txt", ["a.txt", "b.txt"]),
        ("[^a].txt", ["b.txt"]),
        ("*/*.txt", ["dir/c.txt"]),
        ("**/*.txt", ["a.txt", "b.txt", "dir/c.txt", "dir/deep/d.txt"]),
        ("[[]x]", ["[x]"]),
        ("nothing*", []),
        ("nothing", []),
    ],
)
def test_paths_and_wildcards_are_found(tree: int, pattern: str, expected: list[str]) -> None:
    assert [source.path for source in find(tree, pattern)] == expected


def test_links_do_not_lead_out_of_the_tree(tree: int, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "tree/out").symlink_to("../secret")
    (tmp_path / "tree/absolute").symlink_to(tmp_path / "secret")
    assert find(tree, "out") == find(tree, "absolute") == []


def test_a_digest_follows_content_and_modes_but_not_times(tree: int, tmp_path: Path) -> None:
    source = Source(tree, "dir", True)

    def current() -> str:
        return digest(source, lambda path: False, owners=False)

    before = current()
    os.utime(tmp_path / "tree/dir/c.txt", (1, 1))
    assert current() == before
    assert digest(source, lambda path: path == "c.txt", owners=False) != before
    (tmp_path / "tree/dir/c.txt").chmod(0o600)
    changed = current()
    assert changed != before
    (tmp_path / "tree/dir/c.txt").write_text("other")
    assert current() not in (before, changed)
    (tmp_path / "tree/dir/c.txt").rename(tmp_path / "tree/dir/e.txt")
    assert current() not in (before, changed)


def test_a_copied_directory_joins_the_one_that_is_there(tree: int, root: int, tmp_path: Path) -> None:
    made = tmp_path / "root"
    (made / "dir").mkdir()
    (made / "dir/kept").write_text("kept")
    (made / "dir/c.txt").write_text("old")
    Copier(root, Rules(owner=(1, 2))).copy([Source(tree, "dir", True)], "/dir")
    assert (made / "dir/kept").read_text() == "kept"
    assert (made / "dir/c.txt").read_text() == "dir/c.txt"
    status = (made / "dir/deep/d.txt").stat()
    assert (status.st_uid, status.st_gid) == (1, 2)


def test_two_names_of_a_file_stay_one_file(tree: int, root: int, tmp_path: Path) -> None:
    os.link(tmp_path / "tree/dir/c.txt", tmp_path / "tree/dir/deep/again")
    Copier(root).copy([Source(tree, "dir", True)], "/x/y")
    made = tmp_path / "root/x/y"
    assert (made / "c.txt").stat().st_ino == (made / "deep/again").stat().st_ino


def test_links_of_the_root_are_followed_inside_it(tree: int, root: int, tmp_path: Path) -> None:
    (tmp_path / "root/up").symlink_to("../../../outside")
    (tmp_path / "root/file").symlink_to("/real/file")
    copier = Copier(root)
    copier.copy([Source(tree, "a.txt", False)], "/up/")
    copier.copy([Source(tree, "a.txt", False)], "/file")
    assert (tmp_path / "root/outside/a.txt").exists()
    assert (tmp_path / "root/real/file").read_text() == "a.txt"
    assert not (tmp_path / "outside").exists()


def test_a_directory_does_not_replace_a_file(tree: int, root: int, tmp_path: Path) -> None:
    (tmp_path / "root/dir").mkdir()
    (tmp_path / "root/dir/deep").write_text("a file")
    with pytest.raises(InvalidParameter, match="cannot copy to non-directory"):
        Copier(root).copy([Source(tree, "dir", True)], "/dir")


@pytest.mark.parametrize(
    ("text", "file", "folder"),
    [
        ("640", 0o640, 0o640),
        ("4755", 0o4755, 0o4755),
        ("u=rwX,go=rX", 0o644, 0o755),
        ("go-w", 0o604, 0o705),
        ("+x", 0o737, 0o737),
        ("u+s", 0o4626, 0o4727),
        ("a=r", 0o444, 0o444),
    ],
)
def test_modes_are_octal_or_changes(text: str, file: int, folder: int) -> None:
    mode = parse_mode(text)
    assert stat.S_IMODE(mode(0o626, False)) == file
    assert stat.S_IMODE(mode(0o727, True)) == folder


def test_an_impossible_mode_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="invalid chmod parameter: '999'"):
        parse_mode("999")
