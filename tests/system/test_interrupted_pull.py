"""A pull that is disturbed: the client goes away, the daemon dies, garbage is collected meanwhile."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.daemon import PrivateDaemon
from tests.harness.fault_proxy import Damage, FaultProxy
from tests.harness.images import docker_archive
from tests.harness.published import Published, digest, make_layer, publish
from tests.harness.registry import Registry


class StalledPull:
    """A registry whose image has one layer that arrives at once and one that stops half-way."""

    def __init__(self, registry: Registry, proxy: FaultProxy, name: str) -> None:
        layers = [make_layer(f"{name}-quick", 100_000), make_layer(f"{name}-slow", 4_000_000)]
        self.image: Published = publish(registry, f"stalled/{name}", "v1", layers)
        self.proxy = proxy
        self.name = self.image.name.replace(registry.host, proxy.host)
        proxy.plan(f"/blobs/sha256:{self.image.row(1)}", Damage.STALL, 2_500_000)

    def wait(self) -> None:
        """Return when the slow layer has stopped."""
        assert self.proxy.stalled.wait(30)


@pytest.fixture
def stalled(own_daemon: PrivateDaemon, name: str, tmp_path: Path) -> Iterator[StalledPull]:
    with (
        Registry(tmp_path, network=own_daemon.network) as registry,
        FaultProxy(registry.port, own_daemon.network) as proxy,
    ):
        yield StalledPull(registry, proxy, name)


def wait_until_gone(path: Path, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while path.exists():
        assert time.monotonic() < deadline, f"{path} is still there"
        select.select([], [], [], 0.05)


def unfinished(daemon: PrivateDaemon) -> list[str]:
    folders = (daemon.data_root / "blobs/ingest", daemon.data_root / "layers/ingest")
    return [name for folder in folders for name in os.listdir(folder)]


def layer_folder(daemon: PrivateDaemon, layer: bytes) -> Path:
    return daemon.data_root / "layers" / digest(layer).removeprefix("sha256:")


def test_a_client_that_goes_away_ends_the_download_and_a_later_pull_succeeds(
    own_daemon: PrivateDaemon, stalled: StalledPull
) -> None:
    pulling = own_daemon.docker.popen("pull", stalled.name)
    stalled.wait()
    pulling.send_signal(signal.SIGINT)
    pulling.communicate(timeout=30)
    assert pulling.returncode != 0
    assert stalled.proxy.given_up.wait(30)
    assert own_daemon.docker("image", "inspect", stalled.name).returncode != 0
    wait_until_gone(layer_folder(own_daemon, stalled.image.layers[0]))
    assert unfinished(own_daemon) == []
    own_daemon.docker.out("pull", stalled.name)


def test_a_daemon_killed_in_a_pull_leaves_nothing_half_made_and_pulls_again(
    own_daemon: PrivateDaemon, stalled: StalledPull
) -> None:
    pulling = own_daemon.docker.popen("pull", stalled.name)
    stalled.wait()
    own_daemon.kill9()
    pulling.communicate(timeout=30)
    assert unfinished(own_daemon)
    own_daemon.start()
    assert unfinished(own_daemon) == []
    assert own_daemon.docker("image", "inspect", stalled.name).returncode != 0
    wait_until_gone(layer_folder(own_daemon, stalled.image.layers[0]))
    own_daemon.docker.out("pull", stalled.name)
    assert own_daemon.docker.inspect(stalled.name, "image")["Id"] == stalled.image.id


def test_garbage_collection_beside_a_pull_takes_nothing_of_it(
    own_daemon: PrivateDaemon, stalled: StalledPull, name: str
) -> None:
    garbage = make_layer(f"{name}-garbage", 1000)
    loaded = own_daemon.api.request(
        "POST",
        "/images/load",
        docker_archive([garbage], [f"{name}:garbage"]),
        headers={"Content-Type": "application/x-tar"},
    )
    assert loaded.status == 200
    pulling = own_daemon.docker.popen("pull", stalled.name)
    stalled.wait()
    own_daemon.docker.out("rmi", f"{name}:garbage")
    wait_until_gone(layer_folder(own_daemon, garbage))
    stalled.proxy.resume.set()
    output, errors = pulling.communicate(timeout=30)
    assert pulling.returncode == 0, errors
    assert b"Downloaded newer image" in output
    folders = [layer_folder(own_daemon, layer) for layer in stalled.image.layers]
    assert all((folder / "diff").is_dir() for folder in folders)
