"""A full disk: a clear error, no damage, and everything works again once there is room."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator

import pytest

from tests.conftest import load_busybox
from tests.harness.daemon import PrivateDaemon
from tests.harness.images import add_file, busybox_layer, docker_archive

DISK_BYTES = 40 * 1024 * 1024
TAR = {"Content-Type": "application/x-tar"}
NO_SPACE = "no space left on device"


@pytest.fixture
def small() -> Iterator[PrivateDaemon]:
    with PrivateDaemon(disk_bytes=DISK_BYTES) as daemon:
        load_busybox(daemon)
        yield daemon


def free_bytes(daemon: PrivateDaemon) -> int:
    numbers = os.statvfs(daemon.data_root)
    return numbers.f_bavail * numbers.f_frsize


def large_layer(size: int) -> bytes:
    """A layer that does not compress."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        add_file(archive, "large", os.urandom(size))
    return stream.getvalue()


def test_an_image_that_does_not_fit_is_refused_and_leaves_nothing(small: PrivateDaemon) -> None:
    before = free_bytes(small)
    archive = docker_archive([busybox_layer(), large_layer(DISK_BYTES)], ["large:1"])
    answer = small.api.request("POST", "/images/load", archive, headers=TAR)
    assert NO_SPACE in answer.body.decode().lower(), answer.body
    assert small.docker.out("images", "-q", "large") == ""
    small.docker("image", "prune", "-f")
    assert before - free_bytes(small) < 2 * 1024 * 1024
    assert small.docker.out("run", "--rm", "busybox", "echo", "fine") == "fine"


def test_a_container_that_fills_the_disk_hurts_itself_alone(small: PrivateDaemon) -> None:
    small.docker.out("run", "-d", "--name", "bystander", "busybox", "sleep", "1000")
    done = small.docker("run", "--name", "greedy", "busybox", "sh", "-c", "cat /dev/zero > /file; echo $?")
    assert NO_SPACE in done.stderr.lower() or done.stdout.strip() != "0"
    assert small.docker.out("exec", "bystander", "echo", "alive") == "alive"
    refused = small.docker("run", "--rm", "busybox", "true")
    assert refused.returncode in (0, 125, 126, 127), refused
    small.docker.out("rm", "-f", "greedy")
    assert small.docker.out("run", "--rm", "busybox", "echo", "room again") == "room again"


def test_a_daemon_starts_and_cleans_up_on_a_full_disk(small: PrivateDaemon) -> None:
    small.docker("run", "--name", "greedy", "busybox", "sh", "-c", "cat /dev/zero > /file")
    small.kill9()
    small.start()
    assert small.docker.out("ps", "-aq", "--filter", "name=greedy") != ""
    small.docker.out("rm", "-f", "greedy")
    assert small.docker.out("run", "--rm", "busybox", "echo", "fine") == "fine"
