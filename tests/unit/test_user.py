"""Users are found in the container's files, and nothing leads the lookup out of its root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from seom.containers.layered_files import read_layered
from seom.containers.user import resolve_user
from seom.errors import InvalidParameter

PASSWD = "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:44:web:/var/www:/bin/sh\nnohome:x:50:51\n"
GROUP = "root:x:0:\nstaff:x:7:web,other\nwww:x:44:\ndocker:x:99:web\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


@pytest.mark.parametrize(
    ("wanted", "ids", "home"),
    [
        ("", (0, 0, [0]), "/root"),
        ("web", (33, 44, [44, 7, 99]), "/var/www"),
        ("33", (33, 44, [44, 7, 99]), "/var/www"),
        ("web:staff", (33, 7, [7]), "/var/www"),
        ("web:5000", (33, 5000, [5000]), "/var/www"),
        ("1000", (1000, 0, [0]), "/"),
        ("1000:1001", (1000, 1001, [1001]), "/"),
        ("nohome", (50, 51, [51]), "/"),
        (":staff", (0, 7, [7]), "/root"),
    ],
)
def test_a_user_is_resolved(root: Path, wanted: str, ids: tuple[int, int, list[int]], home: str) -> None:
    found = resolve_user(wanted, str(root))
    assert (found.user.uid, found.user.gid, found.user.additional_gids) == ids
    assert found.home == home


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("ghost", "unable to find user ghost: no matching entries in passwd file"),
        ("web:ghosts", "unable to find group ghosts: no matching entries in group file"),
        ("4294967296", "uids and gids must be in range 0-2147483647"),
        ("-1", "uids and gids must be in range 0-2147483647"),
    ],
)
def test_an_unknown_user_is_refused(root: Path, wanted: str, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        resolve_user(wanted, str(root))


def test_further_groups_are_added_by_name_and_number(root: Path) -> None:
    assert resolve_user("0", str(root), ["docker", "1234"]).user.additional_gids == [0, 99, 1234]
    with pytest.raises(InvalidParameter, match="unable to find group nope"):
        resolve_user("0", str(root), ["nope"])


def test_without_files_numbers_still_work(tmp_path: Path) -> None:
    assert resolve_user("7:8", str(tmp_path)).user.uid == 7
    with pytest.raises(InvalidParameter):
        resolve_user("root", str(tmp_path))


def test_upper_layers_hide_lower_ones(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    upper = tmp_path_factory.mktemp("upper")
    layers = [str(upper), str(root)]
    assert resolve_user("web", layers).user.uid == 33
    (upper / "etc").mkdir()
    assert resolve_user("web", layers).user.uid == 33
    (upper / "etc/passwd").write_text("web:x:77:77::/:\n")
    assert resolve_user("web", layers).user.uid == 77
    (upper / "etc/passwd").unlink()
    os.mknod(upper / "etc/passwd", 0o020000, 0)
    assert read_layered(layers, "/etc/passwd") is None
    (upper / "etc/passwd").unlink()
    os.setxattr(upper / "etc", "trusted.overlay.opaque", b"y")
    assert read_layered(layers, "/etc/passwd") is None


def test_links_are_followed_inside_the_root_only(root: Path) -> None:
    (root / "etc/passwd").rename(root / "accounts")
    (root / "etc/passwd").symlink_to("/../../accounts")
    assert read_layered([str(root)], "etc/passwd") == PASSWD.encode()
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").symlink_to("/etc/shadow")
    assert read_layered([str(root)], "etc/passwd") is None
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").symlink_to("passwd")
    with pytest.raises(OSError, match="Too many"):
        read_layered([str(root)], "etc/passwd")


def test_a_fifo_in_place_of_the_file_does_not_block(root: Path) -> None:
    (root / "etc/passwd").unlink()
    os.mkfifo(root / "etc/passwd")
    assert read_layered([str(root)], "etc/passwd") is None
