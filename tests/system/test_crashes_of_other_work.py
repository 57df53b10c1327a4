"""kill -9 of the daemon at system calls while it works on images, networks, volumes, execs and files.

Whatever was under way is either done or not there afterwards, and doing it again works.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import load_busybox
from tests.harness.daemon import PrivateDaemon
from tests.harness.images import busybox_layer, docker_archive
from tests.harness.kill_points import is_alive, killed_at

POINTS = [
    ("openat", 2),
    ("pwrite64", 1),
    ("pwrite64", 4),
    ("mkdir,mkdirat", 1),
    ("rename,renameat,renameat2", 1),
    ("fsync,fdatasync", 1),
    ("sendto,sendmsg", 2),
    ("unlink,unlinkat", 1),
    ("write", 2),
]


@pytest.fixture
def daemon_with_container() -> Iterator[PrivateDaemon]:
    with PrivateDaemon() as daemon:
        load_busybox(daemon)
        daemon.docker.out("run", "-d", "--name", "bystander", "busybox", "sleep", "1000")
        yield daemon


def send(
    daemon: PrivateDaemon, method: str, path: str, body: bytes | object = None, kind: str = "json"
) -> None:
    """One request without a second try; it must succeed."""
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection = daemon.api.connection
    connection.request(method, path, content, {"Content-Type": f"application/{kind}"})
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status < 300 and b"error" not in text[:200], (path, answer.status, text[:300])


def load_image(daemon: PrivateDaemon) -> None:
    archive = docker_archive([busybox_layer(), docker_archive([b""], ["inner:1"])], ["victim:1"], Cmd=["sh"])
    send(daemon, "POST", "/images/load", archive, "x-tar")


def remove_image(daemon: PrivateDaemon) -> None:
    load_image(daemon)
    send(daemon, "DELETE", "/images/victim:1")


def commit(daemon: PrivateDaemon) -> None:
    send(daemon, "POST", "/commit?container=bystander&repo=victim&tag=1", {})


def make_network(daemon: PrivateDaemon) -> None:
    send(daemon, "POST", "/networks/create", {"Name": "victim"})
    send(daemon, "POST", "/networks/victim/connect", {"Container": "bystander"})
    send(daemon, "POST", "/networks/victim/disconnect", {"Container": "bystander"})
    send(daemon, "DELETE", "/networks/victim")


def make_volume(daemon: PrivateDaemon) -> None:
    send(daemon, "POST", "/volumes/create", {"Name": "victim"})
    send(daemon, "DELETE", "/volumes/victim")


def execute(daemon: PrivateDaemon) -> None:
    send(daemon, "POST", "/containers/bystander/exec", {"Cmd": ["true"]})


def copy_in(daemon: PrivateDaemon) -> None:
    send(daemon, "PUT", "/containers/bystander/archive?path=/tmp", busybox_layer(), "x-tar")


def rename_and_update(daemon: PrivateDaemon) -> None:
    send(daemon, "POST", "/containers/bystander/rename?name=renamed")
    send(daemon, "POST", "/containers/renamed/update", {"Memory": 64 << 20, "MemorySwap": 128 << 20})
    send(daemon, "POST", "/containers/renamed/rename?name=bystander")


ACTIONS: list[Callable[[PrivateDaemon], None]] = [
    load_image,
    remove_image,
    commit,
    make_network,
    make_volume,
    execute,
    copy_in,
    rename_and_update,
]


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.__name__)
def test_a_crash_leaves_work_done_or_undone(
    daemon_with_container: PrivateDaemon, action: Callable[[PrivateDaemon], None]
) -> None:
    daemon = daemon_with_container
    before = daemon.leftovers()
    process = int(daemon.docker.inspect("bystander")["State"]["Pid"])
    for call, when in POINTS:
        pid = daemon.pid
        daemon.api.close()
        with killed_at(pid, call, when):
            try:
                action(daemon)
            except (OSError, http.client.HTTPException, AssertionError):
                pass
        if not is_alive(pid):
            daemon.kill9()
            daemon.start()
        tidy_up(daemon)
        assert is_alive(process), (call, when)
    action(daemon)
    tidy_up(daemon)
    more = daemon.wait_for_leftovers(before, processes=False)
    assert not more
    assert files_below(daemon.data_root / "blobs" / "ingest") == []
    assert files_below(daemon.data_root / "layers" / "ingest") == []


def tidy_up(daemon: PrivateDaemon) -> None:
    """Remove what the action may have left, by the ordinary commands, which must all work."""
    docker = daemon.docker
    assert docker.out("exec", docker.out("ps", "-q"), "echo", "alive") == "alive"
    assert len(docker.out("ps", "-q").split()) == 1
    name = docker.out("ps", "--format", "{{.Names}}")
    if name != "bystander":
        docker.out("rename", name, "bystander")
    for image in docker.out("images", "-q", "victim").split():
        docker.out("rmi", "-f", image)
    docker.out("image", "prune", "-f")
    if "victim" in docker.out("network", "ls", "--format", "{{.Name}}").split():
        docker("network", "disconnect", "-f", "victim", "bystander")
        docker.out("network", "rm", "victim")
    if "victim" in docker.out("volume", "ls", "-q").split():
        docker.out("volume", "rm", "victim")
    assert docker.out("images", "--format", "{{.Repository}}") == "busybox"


def files_below(directory: Path) -> list[Path]:
    return [entry for entry in directory.rglob("*") if entry.is_file()] if directory.exists() else []
