"""A pull whose client goes away."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.harness.daemon import PrivateDaemon
from tests.harness.fault_proxy import Damage, FaultProxy
from tests.harness.published import make_layer, publish
from tests.harness.registry import Registry


def test_an_interrupted_pull_closes_its_connection_and_a_later_one_succeeds(
    daemon: PrivateDaemon, name: str, tmp_path: Path
) -> None:
    with (
        Registry(tmp_path, network=daemon.network) as registry,
        FaultProxy(registry.port, daemon.network) as proxy,
    ):
        image = publish(registry, f"interrupted/{name}", "v1", [make_layer(name, 400_000)])
        proxy.plan(f"/blobs/sha256:{image.row(0)}", Damage.STALL, 200_000)
        target = image.name.replace(registry.host, proxy.host)
        pulling = daemon.docker.popen("pull", target)
        assert proxy.stalled.wait(30)
        pulling.send_signal(signal.SIGINT)
        pulling.communicate(timeout=30)
        assert pulling.returncode != 0
        assert proxy.given_up.wait(30)
        assert daemon.docker("image", "inspect", target).returncode != 0
        daemon.docker.out("pull", target)
