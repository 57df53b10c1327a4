"""The stats document of a real process in a real cgroup."""

from __future__ import annotations

import json
import os
import subprocess
import uuid

import msgspec
import pytest

from seom.containers.stats import empty_document, stats_document, take_sample
from seom.linux.cgroup import Cgroup

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_a_busy_process_shows_in_the_document() -> None:
    cgroup = Cgroup(f"seom-test-{uuid.uuid4().hex[:12]}")
    cgroup.create()
    process = subprocess.Popen(
        ["unshare", "-n", "sh", "-c", "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; echo; read x"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: cgroup.add(os.getpid()),
    )
    try:
        first = take_sample(cgroup, process.pid, own_network=True)
        assert process.stdout is not None
        process.stdout.readline()
        second = take_sample(cgroup, process.pid, own_network=True)
        document = json.loads(msgspec.json.encode(stats_document("id", "name", second, first)))
        assert document["cpu_stats"]["cpu_usage"]["total_usage"] > 1_000_000
        assert document["precpu_stats"]["system_cpu_usage"] <= document["cpu_stats"]["system_cpu_usage"]
        assert document["cpu_stats"]["online_cpus"] == os.cpu_count()
        assert document["pids_stats"]["current"] == 1
        assert 0 < document["memory_stats"]["usage"] < document["memory_stats"]["limit"] < 1 << 50
        assert document["networks"] == {}
        assert document["preread"] == first.read
        on_host = json.loads(msgspec.json.encode(stats_document("i", "n", take_sample(cgroup, 1, False))))
        assert "networks" not in on_host
    finally:
        process.kill()
        process.wait()
        cgroup.remove()


def test_a_stopped_container_has_an_empty_document() -> None:
    document = json.loads(msgspec.json.encode(empty_document("id", "name")))
    assert document["read"] == "0001-01-01T00:00:00Z"
    assert document["pids_stats"] == document["memory_stats"] == {}
    assert document["cpu_stats"]["cpu_usage"]["total_usage"] == 0
