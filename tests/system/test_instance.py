"""An instance as a whole: reset, a second daemon on the same data, a damaged database."""

from __future__ import annotations

import subprocess

from tests.conftest import load_busybox
from tests.harness.daemon import SEOMD, PrivateDaemon
from tests.harness.leftovers import Leftovers


def test_a_reset_leaves_nothing_and_the_daemon_goes_on_as_on_its_first_day(own_daemon: PrivateDaemon) -> None:
    docker = own_daemon.docker
    docker.out("network", "create", "extra")
    docker.out("volume", "create", "kept")
    docker.out(
        "run", "-d", "--network", "extra", "-p", "8080:80", "-v", "kept:/data", "busybox", "sleep", "60"
    )
    assert own_daemon.api.post("/seom/v1/reset").status == 204
    remaining = own_daemon.wait_for_leftovers(Leftovers(processes=own_daemon.leftovers().processes))
    assert not remaining.interfaces
    assert not remaining.cgroups
    assert docker.out("ps", "-aq") == docker.out("images", "-q") == docker.out("volume", "ls", "-q") == ""
    assert docker.out("network", "ls", "--format", "{{.Name}}").split() == ["bridge", "host", "none"]
    load_busybox(own_daemon)
    assert docker.out("run", "--rm", "busybox", "hostname", "-i").startswith("172.")


def test_two_daemons_never_share_a_data_root(own_daemon: PrivateDaemon) -> None:
    second = subprocess.run(
        [
            SEOMD,
            *("--data-root", own_daemon.data_root, "--run-dir", own_daemon.directory / "run2"),
            *("--host", f"unix://{own_daemon.directory}/2.sock"),
        ],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert second.returncode == 1
    assert f"another seomd uses {own_daemon.data_root}" in second.stderr


def test_a_damaged_database_is_reported_and_left_as_it_is(own_daemon: PrivateDaemon) -> None:
    own_daemon.stop()
    database = own_daemon.data_root / "seom.db"
    saved = database.read_bytes()
    damaged = saved[:4096] + b"\xff" * 4096 + saved[8192:]
    database.write_bytes(damaged)
    refused = subprocess.run(
        [SEOMD, "--data-root", own_daemon.data_root, "--run-dir", own_daemon.run_dir],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert refused.returncode == 1
    assert f"the database {database} cannot be used" in refused.stderr
    assert database.read_bytes() == damaged
    database.write_bytes(saved)
    own_daemon.start()
    assert "busybox" in own_daemon.docker.out("images")
