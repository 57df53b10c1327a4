"""Volumes and the kernel: mount options, subpaths, and copying an image's content."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from seom.engine.events import EventBus
from seom.engine.mounts import MountPoint, populate, prepare, release
from seom.engine.volumes import Volumes
from seom.errors import InvalidParameter, SystemFailure
from seom.linux.overlay import _in_private_namespace, open_overlay
from seom.storage.database import Database
from seom.volumes.mounting import is_mount_point, mount_volume, unmount_volume

Scenario = Callable[[Volumes], Awaitable[None]]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


def play(root: Path, scenario: Scenario) -> None:
    async def main() -> None:
        database = Database(root / "seom.db")
        volumes = Volumes(database, root, EventBus())
        await volumes.open()
        try:
            await scenario(volumes)
        finally:
            await volumes.reset()
            database.close()

    asyncio.run(main())
    assert f"{root}/" not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture
def layers(tmp_path: Path) -> Iterator[list[str]]:
    """Two layers, topmost first: the upper one hides /data/gone and replaces /data/replaced."""
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    for layer in (lower, upper):
        (layer / "data").mkdir(parents=True)
    (lower / "data/kept").write_text("kept")
    os.chown(lower / "data/kept", 5, 6)
    (lower / "data/kept").chmod(0o4751)
    os.link(lower / "data/kept", lower / "data/linked")
    os.setxattr(lower / "data/kept", "user.note", b"yes")
    (lower / "data/sub").mkdir()
    (lower / "data/sub/link").symlink_to("/etc/passwd")
    os.mkfifo(lower / "data/sub/fifo")
    (lower / "data/gone").write_text("gone")
    (lower / "data/replaced").write_text("old")
    (upper / "data/replaced").write_text("new")
    os.mknod(upper / "data/gone", stat.S_IFCHR, 0)
    (upper / "data").chmod(0o2770)
    os.chown(upper / "data", 33, 34)
    (upper / "escape").symlink_to("../../../../../../data")
    yield [str(upper), str(lower)]


@pytest.mark.parametrize("merge", [open_overlay, lambda lowers: _in_private_namespace(lowers, None, None)])
def test_an_overlay_lives_as_long_as_its_descriptor(
    layers: list[str], merge: Callable[[list[str]], int]
) -> None:
    root = merge(layers)
    try:
        assert sorted(os.listdir(f"/proc/self/fd/{root}/data")) == ["kept", "linked", "replaced", "sub"]
        assert layers[0] not in Path("/proc/self/mountinfo").read_text()
        with pytest.raises(OSError):
            os.mkdir(f"/proc/self/fd/{root}/new")
    finally:
        os.close(root)


def test_layers_may_have_long_names(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 200) / ("e" * 200)
    for name in ("a:1", "b,2", "upper", "work"):
        (deep / name).mkdir(parents=True)
    (deep / "a:1/file").touch()
    root = open_overlay([str(deep / "a:1"), str(deep / "b,2")], str(deep / "upper"), str(deep / "work"))
    try:
        os.mkdir(f"/proc/self/fd/{root}/made")
        assert sorted(os.listdir(f"/proc/self/fd/{root}")) == ["file", "made"]
    finally:
        os.close(root)
    assert os.listdir(deep / "upper") == ["made"]


@pytest.mark.parametrize("destination", ["/data", "/escape"])
def test_an_empty_volume_gets_the_images_content(tmp_path: Path, layers: list[str], destination: str) -> None:
    async def scenario(volumes: Volumes) -> None:
        volume = await volumes.create("data")
        point = MountPoint(type="volume", name="data", destination=destination, copy_data=True)
        await populate([point], layers, volumes)
        data = volume.mountpoint
        assert sorted(os.listdir(data)) == ["kept", "linked", "replaced", "sub"]
        assert (data / "replaced").read_text() == "new"
        kept, top = (data / "kept").stat(), data.stat()
        assert (kept.st_uid, kept.st_gid, stat.S_IMODE(kept.st_mode)) == (5, 6, 0o4751)
        assert os.getxattr(data / "kept", "user.note") == b"yes"
        assert (data / "linked").stat().st_ino == kept.st_ino
        assert kept.st_mtime_ns == os.stat(f"{layers[1]}/data/kept").st_mtime_ns
        assert os.readlink(data / "sub/link") == "/etc/passwd"
        assert stat.S_ISFIFO((data / "sub/fifo").lstat().st_mode)
        assert (top.st_uid, top.st_gid, stat.S_IMODE(top.st_mode)) == (33, 34, 0o2770)

    play(tmp_path, scenario)


def test_a_volume_with_content_is_left_alone(tmp_path: Path, layers: list[str]) -> None:
    async def scenario(volumes: Volumes) -> None:
        volume = await volumes.create("data")
        (volume.mountpoint / "mine").touch()
        points = [
            MountPoint(type="volume", name="data", destination="/data", copy_data=True),
            MountPoint(type="volume", name="other", destination="/nowhere", copy_data=True),
        ]
        await volumes.create("other")
        await populate(points, layers, volumes)
        assert os.listdir(volume.mountpoint) == ["mine"]

    play(tmp_path, scenario)


def test_a_copy_that_fails_leaves_the_volume_empty(tmp_path: Path, layers: list[str]) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount_volume({"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}, small)
    Path(layers[1], "data/big").write_bytes(os.urandom(2_000_000))

    async def scenario(volumes: Volumes) -> None:
        volume = await volumes.create("data")
        point = MountPoint(type="volume", name="data", destination="/data", copy_data=True)
        with pytest.raises(SystemFailure, match=r"into volume data: No space left on device"):
            await populate([point], layers, volumes)
        assert os.listdir(volume.mountpoint) == []
        assert os.listdir(volume.mountpoint.parent) == ["_data"]
        os.unlink(f"{layers[1]}/data/big")
        await populate([point], layers, volumes)
        assert "kept" in os.listdir(volume.mountpoint)

    try:
        play(small, scenario)
    finally:
        unmount_volume(small)


def test_an_interrupted_copy_is_cleaned_up_at_the_next_start(tmp_path: Path) -> None:
    (tmp_path / "volumes/data/_data").mkdir(parents=True)
    (tmp_path / "volumes/data/.filling-0123/half").mkdir(parents=True)

    async def scenario(volumes: Volumes) -> None:
        assert os.listdir(volumes.get("data").mountpoint.parent) == ["_data"]

    play(tmp_path, scenario)


def test_a_tmpfs_volume_is_mounted_while_a_container_uses_it(tmp_path: Path) -> None:
    async def scenario(volumes: Volumes) -> None:
        options = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=0711,noexec"}
        volume = await volumes.create("fast", options=options)
        point = MountPoint(type="volume", name="fast", destination="/fast", driver="local")
        for container in ("one", "two"):
            mounts = await prepare([point], container, volumes)
            assert mounts[0].source == str(volume.mountpoint)
        assert is_mount_point(volume.mountpoint)
        assert os.statvfs(volume.mountpoint).f_blocks * os.statvfs(volume.mountpoint).f_frsize == 1 << 20
        assert os.statvfs(volume.mountpoint).f_flag & os.ST_NOEXEC
        (volume.mountpoint / "file").touch()
        await release([point], "one", volumes)
        await release([point], "one", volumes)
        assert (volume.mountpoint / "file").exists()
        await release([point], "two", volumes)
        assert not is_mount_point(volume.mountpoint)

    play(tmp_path, scenario)


def test_a_bind_volume_shows_its_device_read_only(tmp_path: Path) -> None:
    device, target = tmp_path / "device", tmp_path / "target"
    device.mkdir()
    target.mkdir()
    (device / "file").touch()
    mount_volume({"type": "none", "device": str(device), "o": "bind,ro"}, target)
    try:
        assert is_mount_point(target)
        assert (target / "file").exists()
        with pytest.raises(OSError):
            (target / "new").touch()
        (device / "new").touch()
    finally:
        unmount_volume(target)
    assert not is_mount_point(target)


def test_a_failed_mount_says_what_was_tried(tmp_path: Path) -> None:
    async def scenario(volumes: Volumes) -> None:
        options = {"type": "none", "device": "/does/not/exist", "o": "bind"}
        await volumes.create("bad1", options=options)
        point = MountPoint(type="volume", name="bad1", destination="/x")
        with pytest.raises(SystemFailure) as failure:
            await prepare([point], "one", volumes)
        assert "failed to mount local volume: mount device=/does/not/exist, o=bind, type=none" in str(
            failure.value
        )
        assert str(failure.value).endswith("no such file or directory")

    play(tmp_path, scenario)


def test_a_subpath_is_pinned_and_may_not_escape(tmp_path: Path) -> None:
    async def scenario(volumes: Volumes) -> None:
        volume = await volumes.create("data")
        (volume.mountpoint / "a/b").mkdir(parents=True)
        (volume.mountpoint / "a/b/file").write_text("x")
        (volume.mountpoint / "out").symlink_to("/etc")
        points = [
            MountPoint(type="volume", name="data", destination="/x", subpath="a/b"),
            MountPoint(type="volume", name="data", destination="/y", subpath="a/b/file"),
        ]
        mounts = await prepare(points, "one", volumes)
        (volume.mountpoint / "a").rename(volume.mountpoint / "moved")
        assert os.listdir(mounts[0].source) == ["file"]
        assert os.stat(mounts[1].source).st_size == 1
        await release(points, "one", volumes)
        assert not os.access(mounts[0].source, os.F_OK)
        for subpath in ("out", "missing"):
            point = MountPoint(type="volume", name="data", destination="/x", subpath=subpath)
            with pytest.raises(InvalidParameter, match="cannot access path .*/" + subpath):
                await prepare([point], "one", volumes)

    play(tmp_path, scenario)


def test_pins_of_a_killed_daemon_are_removed_at_the_next_start(tmp_path: Path) -> None:
    async def scenario(volumes: Volumes) -> None:
        volume = await volumes.create("data")
        (volume.mountpoint / "a").mkdir()
        point = MountPoint(type="volume", name="data", destination="/x", subpath="a")
        await prepare([point], "one", volumes)
        await volumes.open()
        assert not (tmp_path / "volumes/.subpaths").exists()
        await release([point], "one", volumes)

    play(tmp_path, scenario)


def test_a_volume_does_not_cover_a_file_of_the_image(tmp_path: Path, layers: list[str]) -> None:
    async def scenario(volumes: Volumes) -> None:
        await volumes.create("data")
        for path in ("/data/kept", "/data/kept/below"):
            point = MountPoint(type="volume", name="data", destination=path, copy_data=True)
            with pytest.raises(InvalidParameter, match=f"over existing file, file exists {path}"):
                await populate([point], layers, volumes)

    play(tmp_path, scenario)


def test_a_bind_propagates_only_from_a_mount_that_does(tmp_path: Path) -> None:
    script = f"""
from seom.linux import mount as m
from seom.linux.namespaces import unshare, CLONE_NEWNS
from seom.volumes.propagation import refusal
unshare(CLONE_NEWNS)
path = {str(tmp_path)!r}
m.mount(path, path, None, m.MS_BIND)
for propagation in (m.MS_PRIVATE, m.MS_SHARED):
    m.mount(None, path, None, propagation)
    for wanted in ("rprivate", "rslave", "rshared"):
        print(refusal(path, wanted))
"""
    lines = subprocess.check_output([sys.executable, "-c", script], text=True).split("\n")
    text = f"path {tmp_path} is mounted on {tmp_path} but it is not a"
    assert lines == ["", f"{text} shared or slave mount", f"{text} shared mount", "", "", "", ""]
