"""What a container changed, made by a real overlay."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from seom.containers.changes import Kind, changes, unused_mount_points
from seom.linux.overlay import open_overlay

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="overlays need root")


def changed_by(tmp_path: Path, action: Callable[[Path], object]) -> list[str]:
    """Apply an action to a container's root; the lines of docker diff."""
    lower, upper, work = (tmp_path / name for name in ("lower", "upper", "work"))
    for directory in (lower, upper, work):
        directory.mkdir()
    (lower / "etc/conf.d").mkdir(parents=True)
    (lower / "etc/conf.d/a").write_text("a")
    (lower / "etc/conf.d/b").write_text("b")
    (lower / "etc/passwd").write_text("x")
    (lower / "var").mkdir()
    (lower / "link").symlink_to("/etc")
    root = open_overlay([str(lower)], str(upper), str(work))
    try:
        action(Path(f"/proc/self/fd/{root}"))
    finally:
        os.close(root)
    letters = {Kind.MODIFIED: "C", Kind.ADDED: "A", Kind.DELETED: "D"}
    return [f"{letters[change.kind]} {change.path}" for change in changes([str(lower)], str(upper))]


def test_nothing_changed(tmp_path: Path) -> None:
    assert changed_by(tmp_path, lambda root: (root / "etc/passwd").read_text()) == []


def test_added_files_and_their_parents(tmp_path: Path) -> None:
    def action(root: Path) -> None:
        (root / "etc/conf.d/c").touch()
        (root / "srv/deep").mkdir(parents=True)

    assert changed_by(tmp_path, action) == [
        "C /etc",
        "C /etc/conf.d",
        "A /etc/conf.d/c",
        "A /srv",
        "A /srv/deep",
    ]


def test_modified_and_deleted_files(tmp_path: Path) -> None:
    def action(root: Path) -> None:
        (root / "etc/passwd").write_text("y")
        (root / "etc/conf.d/a").unlink()
        (root / "var").chmod(0o700)

    assert changed_by(tmp_path, action) == [
        "C /etc",
        "C /etc/conf.d",
        "D /etc/conf.d/a",
        "C /etc/passwd",
        "C /var",
    ]


def test_a_deleted_directory_is_one_line(tmp_path: Path) -> None:
    assert changed_by(tmp_path, lambda root: shutil.rmtree(root / "etc")) == ["D /etc"]


def test_a_replaced_directory_hides_what_was_in_it(tmp_path: Path) -> None:
    def action(root: Path) -> None:
        shutil.rmtree(root / "etc/conf.d")
        (root / "etc/conf.d").mkdir()
        (root / "etc/conf.d/a").write_text("new")

    assert changed_by(tmp_path, action) == [
        "C /etc",
        "C /etc/conf.d",
        "C /etc/conf.d/a",
        "D /etc/conf.d/b",
    ]


def test_a_link_replaced_by_a_directory(tmp_path: Path) -> None:
    def action(root: Path) -> None:
        (root / "link").unlink()
        (root / "link").mkdir()
        (root / "link/passwd").touch()

    assert changed_by(tmp_path, action) == ["C /link", "A /link/passwd"]


def test_places_to_mount_on_are_no_changes(tmp_path: Path) -> None:
    def action(root: Path) -> None:
        for name in ("proc", "sys", "dev"):
            (root / name).mkdir()
        (root / "etc/hosts").touch()

    assert changed_by(tmp_path, action) == []
    assert unused_mount_points([str(tmp_path / "lower")], str(tmp_path / "upper")) == {
        b"proc",
        b"sys",
        b"dev",
        b"etc/hosts",
    }


def test_content_in_those_places_is_a_change(tmp_path: Path) -> None:
    def action(root: Path) -> None:
        (root / "etc/hosts").write_text("127.0.0.1 me")

    assert changed_by(tmp_path, action) == ["C /etc", "A /etc/hosts"]
