"""Limits in the kernel's terms, for hosts of both kinds."""

from __future__ import annotations

import pytest

from seom.containers.limits import cgroup_settings, cpu_weight, device_rules
from seom.linux.cgroup import Layout, parse_layout
from seom.linux.cgroup_devices import v1_entry
from seom.oci.runtime_spec import (
    BlockIo,
    CpuLimits,
    DeviceRule,
    MemoryLimits,
    PidsLimit,
    Resources,
    ThrottleDevice,
)

V1 = Layout({"cpu": "/c/cpu", "memory": "/c/memory", "pids": "/c/pids"}, None, frozenset())
V2 = Layout({}, "/c", frozenset({"cpu", "memory", "pids", "io"}))
RESOURCES = Resources(
    memory=MemoryLimits(limit=100, swap=300, reservation=50, disable_oom_killer=True),
    cpu=CpuLimits(shares=1024, quota=5000, period=10000, cpus="0-1"),
    pids=PidsLimit(limit=-1),
    block_io=BlockIo(throttle_read_bps_device=[ThrottleDevice(8, 0, 1000)]),
    unified={"memory.high": "90"},
)


def test_limits_on_v1() -> None:
    assert cgroup_settings(RESOURCES, V1) == [
        ("cpu.shares", "1024"),
        ("cpu.cfs_period_us", "10000"),
        ("cpu.cfs_quota_us", "5000"),
        ("cpuset.cpus", "0-1"),
        ("memory.limit_in_bytes", "100"),
        ("memory.memsw.limit_in_bytes", "300"),
        ("memory.soft_limit_in_bytes", "50"),
        ("memory.oom_control", "1"),
        ("pids.max", "max"),
        ("blkio.throttle.read_bps_device", "8:0 1000"),
    ]


def test_limits_on_v2() -> None:
    assert cgroup_settings(RESOURCES, V2) == [
        ("cpu.weight", "100"),
        ("cpu.max", "5000 10000"),
        ("cpuset.cpus", "0-1"),
        ("memory.swap.max", "200"),
        ("memory.max", "100"),
        ("memory.low", "50"),
        ("pids.max", "max"),
        ("io.max", "8:0 rbps=1000"),
        ("memory.high", "90"),
    ]


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 100), (262144, 10000), (512, 59)])
def test_shares_become_weights(shares: int, weight: int) -> None:
    assert cpu_weight(shares) == weight


def test_device_rules_deny_first_and_end_with_the_standard_devices() -> None:
    rules = device_rules(Resources(devices=[DeviceRule(True, "c", 10, 200, "rwm")]))
    assert [v1_entry(rule) for rule in rules[:2]] == ["a", "c 10:200 rwm"]
    assert (True, "c", 1, 3, "rwm") in rules
    assert device_rules(Resources(devices=[DeviceRule(allow=True)])) == [(True, "a", None, None, "rwm")]


def test_layouts_are_recognised() -> None:
    line = "30 20 0:1 / {} rw,nosuid - {} x {}"
    v1 = [
        line.format("/c/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct"),
        line.format("/c/freezer", "cgroup", "rw,freezer"),
        line.format("/c/systemd", "cgroup", "rw,name=systemd"),
    ]
    v2 = line.format("/c/unified", "cgroup2", "rw,nsdelegate")
    old, mixed, new = (parse_layout("\n".join(lines)) for lines in (v1, [*v1, v2], [v2]))
    assert (old.mode, mixed.mode, new.mode) == ("v1", "hybrid", "v2")
    assert old.v1 == {"cpu": "/c/cpu,cpuacct", "cpuacct": "/c/cpu,cpuacct", "freezer": "/c/freezer"}
    assert "freezer" not in mixed.v1
    assert new.unified and not mixed.unified
