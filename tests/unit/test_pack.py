"""Trees written as tar, read back by tarfile and by GNU tar."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from seom.storage.pack import TarWriter

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="owners and device nodes need root")


def packed(directory: Path, overlay: bool = False, skip: tuple[bytes, ...] = ()) -> bytes:
    stream = io.BytesIO()
    descriptor = os.open(directory, os.O_RDONLY)
    writer = TarWriter(stream.write, overlay, skip)
    writer.add_content(descriptor)
    writer.finish()
    os.close(descriptor)
    return stream.getvalue()


def members(archive: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: member for member in tar.getmembers()}


@needs_root
def test_owner_mode_time_links_and_attributes_survive(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    file = tmp_path / "sub/file"
    file.write_bytes(b"x" * 1000)
    os.chown(file, 3_000_000, 7)
    file.chmod(0o4755)
    os.utime(file, (1_600_000_000, 1_600_000_000))
    os.setxattr(file, "user.note", b"\0\xff\n")
    os.link(file, tmp_path / "sub/second")
    (tmp_path / "sub/link").symlink_to("/" + "l" * 150)
    os.mkfifo(tmp_path / "fifo")
    os.mknod(tmp_path / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    found = members(packed(tmp_path))
    assert list(found) == ["fifo", "null", "sub", "sub/file", "sub/link", "sub/second"]
    info = found["sub/file"]
    assert (info.uid, info.gid, info.mode, info.size) == (3_000_000, 7, 0o4755, 1000)
    assert info.mtime == 1_600_000_000
    assert info.pax_headers["SCHILY.xattr.user.note"] == "\0\udcff\n"
    assert found["sub/second"].islnk()
    assert found["sub/second"].linkname == "sub/file"
    assert found["sub/link"].linkname == "/" + "l" * 150
    assert found["fifo"].isfifo()
    assert (found["null"].devmajor, found["null"].devminor) == (1, 3)


@pytest.mark.parametrize("length", [99, 100, 101, 155, 200, 255])
def test_long_names_are_read_back(tmp_path: Path, length: int) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 60)
    deep.mkdir(parents=True)
    (deep / ("f" * length)).write_bytes(b"1")
    archive = packed(tmp_path)
    assert f"{'d' * 100}/{'e' * 60}/{'f' * length}" in members(archive)
    listed = subprocess.run(["tar", "-t"], input=archive, capture_output=True, check=True)
    assert listed.stdout.decode().splitlines()[-1].endswith("/" + "f" * length)


def test_names_that_are_not_text_are_kept(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff\xfe"
    with open(name, "wb") as file:
        file.write(b"x")
    assert list(members(packed(tmp_path))) == [os.fsdecode(b"\xff\xfe")]


def test_the_same_tree_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / name).write_text(name)
    assert packed(tmp_path) == packed(tmp_path)


def test_a_very_deep_tree_is_packed(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=directory)
        inner = os.open("d", os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = inner
    os.close(directory)
    try:
        listed = subprocess.run(["tar", "-t"], input=packed(tmp_path), capture_output=True, check=True)
        assert len(listed.stdout.splitlines()) == 1200
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)


@needs_root
def test_whiteouts_of_an_overlay_become_those_of_a_layer(tmp_path: Path) -> None:
    (tmp_path / "opaque").mkdir()
    (tmp_path / "opaque/new").touch()
    os.setxattr(tmp_path / "opaque", "trusted.overlay.opaque", b"y")
    os.mknod(tmp_path / "gone", stat.S_IFCHR, 0)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/x").touch()
    found = members(packed(tmp_path, overlay=True, skip=(b"proc",)))
    assert list(found) == [".wh.gone", "opaque", "opaque/.wh..wh..opq", "opaque/new"]
    assert found[".wh.gone"].isfile()
    assert "gone" in members(packed(tmp_path))
