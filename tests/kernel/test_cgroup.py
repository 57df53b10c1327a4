"""Control groups of the host, whatever kind it has: limits, statistics, freezing, killing, removal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from seom.containers.limits import cgroup_settings, device_rules
from seom.linux import namespaces
from seom.linux.cgroup import Cgroup, host_layout
from seom.linux.cgroup_files import read_control
from seom.linux.cgroup_stats import read_stats
from seom.linux.mount import MS_PRIVATE, set_propagation
from seom.oci.runtime_spec import CpuLimits, DeviceRule, MemoryLimits, PidsLimit, Resources

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access(Cgroup("seom-probe").folders[0].rsplit("/", 1)[0], os.W_OK),
    reason="cgroups are not writable here",
)
MB = 1 << 20


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    group = Cgroup(f"seom-test-{uuid.uuid4().hex[:12]}/inner")
    group.create()
    yield group
    group.kill()
    group.remove()
    Cgroup(group.path.split("/")[0]).remove()


def enter(group: Cgroup) -> None:
    """Join by the paths a container start uses, but from a process that is running already."""
    group.join_v1()
    if group.layout.v2 is not None:
        with open(f"{group.layout.v2}/{group.path}/cgroup.procs", "w") as file:
            file.write("0")


def start(group: Cgroup, *command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, preexec_fn=lambda: enter(group), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_the_layout_is_reported() -> None:
    print(f"cgroups of this run: {host_layout().mode}")
    assert host_layout().mode in ("v1", "v2", "hybrid")


def test_a_process_joins_every_hierarchy(cgroup: Cgroup) -> None:
    process = start(cgroup, "cat", "/proc/self/cgroup")
    output, _ = process.communicate()
    paths = {}
    for line in output.decode().splitlines():
        _, controllers, path = line.split(":")
        paths.update(dict.fromkeys(controllers.split(","), path))
    expected = [*cgroup.layout.v1] if cgroup.layout.v1 else []
    expected += [""] if cgroup.layout.v2 is not None else []
    assert {paths[name] for name in expected} == {f"/{cgroup.path}"}


def test_limits_are_read_back_from_the_kernel(cgroup: Cgroup) -> None:
    resources = Resources(
        memory=MemoryLimits(limit=64 * MB, reservation=32 * MB),
        cpu=CpuLimits(shares=1024, quota=50_000, period=100_000, cpus="0"),
        pids=PidsLimit(limit=17),
    )
    cgroup.apply(cgroup_settings(resources, cgroup.layout))
    stats = read_stats(cgroup)
    assert stats.memory_limit == 64 * MB
    assert stats.pids_limit == 17
    assert read_control(f"{cgroup.folder('cpuset')}/cpuset.cpus").strip() == "0"
    if cgroup.layout.unified:
        assert read_control(f"{cgroup.folder('cpu')}/cpu.max") == "50000 100000\n"
        assert read_control(f"{cgroup.folder('cpu')}/cpu.weight") == "100\n"
    else:
        assert read_control(f"{cgroup.folder('cpu')}/cpu.cfs_quota_us") == "50000\n"


@pytest.mark.parametrize(("first", "second"), [(64, 128), (128, 64)])
def test_memory_and_swap_can_be_raised_and_lowered(cgroup: Cgroup, first: int, second: int) -> None:
    for limit in (first, second):
        resources = Resources(memory=MemoryLimits(limit=limit * MB, swap=2 * limit * MB))
        cgroup.apply(cgroup_settings(resources, cgroup.layout))
    assert read_stats(cgroup).memory_limit == second * MB


def test_the_pids_limit_stops_a_fork_bomb(cgroup: Cgroup) -> None:
    cgroup.apply(cgroup_settings(Resources(pids=PidsLimit(limit=3)), cgroup.layout))
    process = start(cgroup, "sh", "-c", "for i in 1 2 3 4 5 6; do sleep 600 & done; read x")
    assert process.stderr is not None
    assert b"fork" in process.stderr.readline()


def test_an_out_of_memory_kill_is_counted(cgroup: Cgroup) -> None:
    memory = MemoryLimits(limit=16 * MB, swap=16 * MB)
    cgroup.apply(cgroup_settings(Resources(memory=memory), cgroup.layout))
    assert cgroup.oom_kills() == 0
    process = start(cgroup, "sh", "-c", "head -c 100m /dev/zero | tail -c 90m | sort > /dev/null; exit 0")
    process.wait()
    assert cgroup.oom_kills() >= 1


def test_statistics_count_cpu_memory_and_processes(cgroup: Cgroup) -> None:
    process = start(cgroup, "sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo; read x")
    assert process.stdout is not None
    process.stdout.readline()
    stats = read_stats(cgroup)
    process.kill()
    process.wait()
    assert stats.cpu_usage_ns > 1_000_000
    assert stats.memory_usage > 0
    assert stats.memory_stat
    assert stats.pids_current == 1


def test_freezing_stops_and_thawing_resumes(cgroup: Cgroup) -> None:
    process = start(cgroup, "sh", "-c", "while :; do echo x; done")
    assert process.stdout is not None
    cgroup.freeze()
    assert cgroup.frozen()
    used = read_stats(cgroup).cpu_usage_ns
    assert read_stats(cgroup).cpu_usage_ns == used
    cgroup.thaw()
    assert not cgroup.frozen()
    while read_stats(cgroup).cpu_usage_ns == used:
        process.stdout.read(65536)
    process.kill()
    process.wait()


@pytest.mark.parametrize("frozen", [False, True])
def test_kill_ends_every_process_in_the_group(cgroup: Cgroup, frozen: bool) -> None:
    process = start(cgroup, "sh", "-c", "sleep 600 & sleep 600 & echo ready; wait")
    assert process.stdout is not None
    process.stdout.readline()
    assert len(cgroup.pids()) == 3
    if frozen:
        cgroup.freeze()
    cgroup.kill()
    assert process.wait(timeout=10) == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while cgroup.pids():
        assert time.monotonic() < deadline


def test_remove_takes_groups_made_inside_with_it(cgroup: Cgroup) -> None:
    for folder in cgroup.folders:
        os.makedirs(f"{folder}/made/by/container")
    cgroup.remove()
    assert not cgroup.exists()
    cgroup.remove()


def test_devices_are_denied_unless_allowed(cgroup: Cgroup) -> None:
    resources = Resources(devices=[DeviceRule(allow=False), DeviceRule(True, "c", 1, 11, "r")])
    cgroup.allow_devices(device_rules(resources))
    script = """
        d=$(mktemp -d); trap 'rm -r $d' EXIT
        mknod $d/kmsg c 1 11 && (: < $d/kmsg) && echo kmsg-read; (: > $d/kmsg) 2>/dev/null && echo kmsg-write
        (: < /dev/null) && (: > /dev/null) && echo null
    """
    process = start(cgroup, "sh", "-c", script)
    output, errors = process.communicate()
    assert output.split() == [b"kmsg-read", b"null"], errors
    cgroup.allow_devices(device_rules(Resources(devices=[DeviceRule(allow=True)])))
    process = start(cgroup, "sh", "-c", script)
    assert b"kmsg-write" in process.communicate()[0]


NESTED = """
import os, subprocess, sys
from seom.linux import namespaces
from seom.linux.cgroup import Cgroup, Layout
subprocess.run(["mount", "-t", "cgroup2", "none", sys.argv[1]], check=True)
controllers = frozenset(open(f"{sys.argv[1]}/cgroup.controllers").read().split())
layout = Layout({}, sys.argv[1], controllers)
group = Cgroup("seom-inner/one", layout)
group.create()
group.apply([("pids.max", "7")])
print(open(f"{sys.argv[1]}/seom-inner/one/pids.max").read().strip(), open("/proc/self/cgroup").read().strip())
group.remove()
"""


@pytest.mark.skipif(not host_layout().unified, reason="only where cgroup v2 has the controllers")
def test_a_nested_v2_root_with_processes_of_its_own_is_made_room_in(cgroup: Cgroup, tmp_path: Path) -> None:
    def nest() -> None:
        enter(cgroup)
        namespaces.unshare(namespaces.CLONE_NEWCGROUP | namespaces.CLONE_NEWNS)
        set_propagation("/", MS_PRIVATE)

    done = subprocess.run(
        [sys.executable, "-c", NESTED, str(tmp_path)], capture_output=True, text=True, preexec_fn=nest
    )
    assert done.stdout.split() == ["7", "0::/init"], done.stderr
