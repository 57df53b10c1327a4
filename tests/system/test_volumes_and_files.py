"""Volumes and container files over crashes of the daemon and on full disks."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.daemon import PrivateDaemon


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    directory = tmp_path / "small"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", directory], check=True)
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)


def test_mounted_volumes_stay_shared_over_a_crash_of_the_daemon(own_daemon: PrivateDaemon) -> None:
    docker = own_daemon.docker
    docker.out("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m", "fast")
    docker.out("run", "-d", "--name", "one", "-v", "fast:/data", "busybox", "sleep", "1000")
    docker.out("exec", "one", "touch", "/data/before")
    own_daemon.kill9()
    own_daemon.start()
    assert docker.out("run", "--rm", "-v", "fast:/data", "busybox", "ls", "/data") == "before"
    # The end of the second container must not unmount what the first one has.
    docker.out("exec", "one", "touch", "/data/after")
    assert docker.out("run", "--rm", "-v", "fast:/data", "busybox", "ls", "/data") == "after\nbefore"
    done = docker("volume", "rm", "fast")
    assert "volume is in use" in done.stderr
    docker.out("rm", "-f", "one")
    assert docker.out("volume", "rm", "fast") == "fast"


def test_volumes_and_their_labels_survive_a_crash(own_daemon: PrivateDaemon) -> None:
    docker = own_daemon.docker
    docker.out("volume", "create", "--label", "a=b", "kept")
    docker.out("run", "--rm", "-v", "kept:/data", "busybox", "sh", "-c", "echo 1 > /data/file")
    own_daemon.kill9()
    own_daemon.start()
    assert docker.inspect("kept", "volume")["Labels"] == {"a": "b"}
    assert docker.out("run", "--rm", "-v", "kept:/data", "busybox", "cat", "/data/file") == "1"


def test_a_volume_is_found_again_when_the_database_is_lost(own_daemon: PrivateDaemon) -> None:
    docker = own_daemon.docker
    docker.out("volume", "create", "kept")
    (own_daemon.data_root / "volumes/kept/_data/file").write_text("content")
    own_daemon.stop()
    for path in own_daemon.data_root.glob("seom.db*"):
        path.unlink()
    own_daemon.start()
    assert docker.out("volume", "ls", "-q") == "kept"
    assert (own_daemon.data_root / "volumes/kept/_data/file").read_text() == "content"


def test_a_copy_into_a_full_volume_says_so(daemon: PrivateDaemon, name: str, tmp_path: Path) -> None:
    docker = daemon.docker
    options = ["-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m"]
    docker.out("volume", "create", *options, name)
    docker.out("run", "-d", "--name", name, "-v", f"{name}:/data", "busybox", "sleep", "1000")
    (tmp_path / "big").write_bytes(os.urandom(3_000_000))
    done = docker("cp", tmp_path / "big", f"{name}:/data/")
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    docker.out("exec", name, "rm", "-f", "/data/big")
    (tmp_path / "small").write_text("x")
    docker.out("cp", tmp_path / "small", f"{name}:/data/")
    docker.out("rm", "-f", name)
    docker.out("volume", "rm", name)


def test_a_container_is_not_made_when_its_volume_cannot_be_filled(
    daemon: PrivateDaemon, name: str, small_disk: Path
) -> None:
    docker = daemon.docker
    before = docker.out("volume", "ls", "-q")
    docker.out("volume", "create", name)
    # The volume's folder is on the small disk: copying the image's /bin (2 MB) into it must fail.
    folder = daemon.data_root / "volumes" / name
    subprocess.run(["mount", "--bind", small_disk, folder], check=True)
    try:
        (folder / "_data").mkdir()
        done = docker("create", "--name", name, "-v", f"{name}:/bin", "-v", "/anonymous", "busybox")
        assert done.returncode == 1
        assert f"cannot copy the image's /bin into volume {name}: No space left on device" in done.stderr
        assert os.listdir(folder / "_data") == []
        assert docker.out("ps", "-aq", "--filter", f"name={name}") == ""
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
    docker.out("volume", "rm", name)
    assert docker.out("volume", "ls", "-q") == before


def test_a_daemon_killed_during_a_copy_leaves_no_program_and_no_mount(
    own_daemon: PrivateDaemon, tmp_path: Path
) -> None:
    docker = own_daemon.docker
    docker.out("create", "--name", "one", "-v", "vol:/data", "busybox")
    reader, writer = os.pipe()
    # A tar from a pipe that never ends: the copy is under way until the daemon dies.
    copying = docker.popen("cp", "-", "one:/data", stdin=reader)
    os.close(reader)
    archive = subprocess.run(["tar", "-C", "/bin", "-c", "busybox"], capture_output=True, check=True).stdout
    os.write(writer, archive[:60_000])
    started = own_daemon.data_root / "volumes/vol/_data/busybox"
    while not started.exists() and copying.poll() is None:
        select.select([], [], [], 0.01)
    own_daemon.kill9()
    os.close(writer)
    copying.communicate()
    assert copying.returncode == 1
    own_daemon.start()
    assert programs(own_daemon) == 0
    docker.out("cp", "/bin/busybox", "one:/data/busybox")
    docker.out("start", "-a", "one")


def test_a_reader_that_goes_away_ends_the_program(own_daemon: PrivateDaemon) -> None:
    docker = own_daemon.docker
    docker.out("run", "--name", "one", "busybox", "sh", "-c", "head -c 50000000 /dev/zero > /big")
    copying = docker.popen("cp", "one:/big", "-")
    assert copying.stdout is not None
    copying.stdout.read(1000)
    copying.send_signal(signal.SIGKILL)
    copying.wait()
    while programs(own_daemon) > 1:  # the server itself stays for a while
        select.select([], [], [], 0.01)
    assert docker.out("start", "-a", "one") == ""


def programs(daemon: PrivateDaemon) -> int:
    """How many processes deal with container files."""
    return sum("archive_server" in command for command in daemon.children().values())


@pytest.fixture
def shared_mount(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host that is a shared mount."""
    directory = tmp_path / "shared"
    directory.mkdir()
    subprocess.run(["mount", "--bind", "--make-shared", directory, directory], check=True)
    yield directory
    subprocess.run(["umount", "-lR", directory], check=True)


@pytest.mark.parametrize(("propagation", "seen"), [("rslave", True), ("rprivate", False)])
def test_mounts_of_the_host_reach_a_container_that_asked(
    daemon: PrivateDaemon, name: str, shared_mount: Path, propagation: str, seen: bool
) -> None:
    docker = daemon.docker
    (shared_mount / "disk").mkdir()
    volume = f"{shared_mount}:/host:{propagation}"
    docker.out("run", "-d", "--name", name, "-v", volume, "busybox", "sleep", "1000")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", shared_mount / "disk"], check=True)
    (shared_mount / "disk/file").touch()
    assert docker.out("exec", name, "ls", "/host/disk") == ("file" if seen else "")
    assert (shared_mount / "disk/file").exists()


def test_mounts_of_a_container_reach_the_host_when_shared(
    daemon: PrivateDaemon, name: str, shared_mount: Path
) -> None:
    (shared_mount / "disk").mkdir()
    script = "mount -t tmpfs tmpfs /host/disk && touch /host/disk/file && exec sleep 1000"
    command = ["busybox", "sh", "-c", script]
    docker = daemon.docker
    docker.out("run", "-d", "--name", name, "--privileged", "-v", f"{shared_mount}:/host:rshared", *command)
    docker.out("exec", name, "sh", "-c", "until test -e /host/disk/file; do :; done")
    assert (shared_mount / "disk/file").exists()


def test_a_bind_that_cannot_propagate_is_refused(daemon: PrivateDaemon, name: str, tmp_path: Path) -> None:
    directory = tmp_path / "private"
    directory.mkdir()
    subprocess.run(["mount", "--bind", "--make-private", directory, directory], check=True)
    try:
        done = daemon.docker("run", "--rm", "-v", f"{directory}:/x:rshared", "busybox", "true")
        assert done.returncode == 125
        assert f"path {directory} is mounted on {directory} but it is not a shared mount" in done.stderr
    finally:
        subprocess.run(["umount", "-l", directory], check=True)
