"""kill -9 of the daemon while it loads, commits or removes an image: all of it is there, or nothing."""

from __future__ import annotations

import http.client
import select
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.harness.daemon import PrivateDaemon
from tests.harness.images import busybox_layer, docker_archive
from tests.harness.kill_points import killed_at
from tests.kernel.tars import Tar

OWN = Tar().file("made/by/test", b"whole\n").folder("made/empty").content()
ARCHIVE = docker_archive([busybox_layer(), OWN], ["app:1"], Cmd=["cat", "/made/by/test"])
BROKEN = (OSError, http.client.HTTPException)
RENAME = "rename,renameat,renameat2"

# Calls that a load makes: writing blobs, extracting, publishing (rename), rows (pwrite64 of the database).
LOAD_POINTS = [
    ("symlinkat", 200),
    ("fsync,fdatasync", 1),
    ("fsync,fdatasync", 6),
    (RENAME, 1),
    (RENAME, 3),
    (RENAME, 5),
    ("pwrite64", 1),
    ("pwrite64", 4),
]
REMOVAL_POINTS = [
    ("pwrite64", 1),
    ("pwrite64", 3),
    (RENAME, 1),
    ("unlink", 1),
]


@pytest.fixture
def own_daemon() -> Iterator[PrivateDaemon]:
    with PrivateDaemon() as daemon:
        yield daemon


def load(daemon: PrivateDaemon) -> int:
    headers = {"Content-Type": "application/x-tar"}
    return daemon.api.request("POST", "/images/load", ARCHIVE, headers=headers).status


def restart(daemon: PrivateDaemon) -> None:
    if daemon.process is not None and daemon.process.poll() is None:
        daemon.stop()
    else:
        daemon.kill9()
    daemon.start()


def wait_until_clean(daemon: PrivateDaemon, timeout_s: float = 20) -> None:
    """Leftovers of the crash are gone at once; what no image needs is collected in the background."""
    folders: list[Path] = [daemon.data_root / "blobs/ingest", daemon.data_root / "layers/ingest"]
    deadline = time.monotonic() + timeout_s
    while left := [entry for folder in folders for entry in folder.iterdir()]:
        assert time.monotonic() < deadline, f"left behind: {left}"
        select.select([], [], [], 0.02)


def check_whole_or_absent(daemon: PrivateDaemon) -> bool:
    """Whether app:1 is there; if so, that it runs and can be saved."""
    if daemon.docker("image", "inspect", "app:1").returncode:
        return False
    assert daemon.docker.out("run", "--rm", "app:1") == "whole"
    assert daemon.docker("save", "-o", daemon.directory / "saved.tar", "app:1").returncode == 0
    return True


@pytest.mark.parametrize(("call", "when"), LOAD_POINTS)
def test_a_load_is_whole_or_absent(own_daemon: PrivateDaemon, call: str, when: int) -> None:
    with killed_at(own_daemon.pid, call, when), suppress(*BROKEN):
        load(own_daemon)
    restart(own_daemon)
    wait_until_clean(own_daemon)
    check_whole_or_absent(own_daemon)
    assert load(own_daemon) == 200
    assert check_whole_or_absent(own_daemon)


@pytest.mark.parametrize(("call", "when"), REMOVAL_POINTS)
def test_a_removal_is_whole_or_absent(own_daemon: PrivateDaemon, call: str, when: int) -> None:
    assert load(own_daemon) == 200
    with killed_at(own_daemon.pid, call, when), suppress(*BROKEN):
        own_daemon.api.request("DELETE", "/images/app:1")
    restart(own_daemon)
    if not check_whole_or_absent(own_daemon):
        assert load(own_daemon) == 200
        assert check_whole_or_absent(own_daemon)


@pytest.mark.parametrize(("call", "when"), [(RENAME, 1), (RENAME, 2), ("pwrite64", 2)])
def test_a_commit_is_whole_or_absent(own_daemon: PrivateDaemon, call: str, when: int) -> None:
    assert load(own_daemon) == 200
    own_daemon.docker.out("run", "--name", "source", "app:1", "sh", "-c", "echo new > /made/by/commit")
    with killed_at(own_daemon.pid, call, when), suppress(*BROKEN):
        own_daemon.api.request("POST", "/commit?container=source&repo=made&tag=1")
    restart(own_daemon)
    if own_daemon.docker("image", "inspect", "made:1").returncode:
        own_daemon.docker.out("commit", "source", "made:1")
    assert own_daemon.docker.out("run", "--rm", "made:1", "cat", "/made/by/commit") == "new"
