"""What a control group has used, read from v1 or v2 files into one structure."""

from __future__ import annotations

import errno

from seom.linux.cgroup import Cgroup
from seom.linux.cgroup_files import read_control, read_flat

# On v1 "no limit" is the largest multiple of a page: anything from here up.
UNLIMITED = 1 << 62


class IoCount:
    """One line of block I/O accounting: operation is "Read", "Write" ... on v1, lower case on v2."""

    __slots__ = ("major", "minor", "operation", "value")

    def __init__(self, major: int, minor: int, operation: str, value: int) -> None:
        self.major = major
        self.minor = minor
        self.operation = operation
        self.value = value


class CgroupStats:
    """Counters of one group. Times in nanoseconds, memory in bytes; None where the host has no number."""

    def __init__(self) -> None:
        self.unified = False
        self.cpu_usage_ns = 0
        self.cpu_user_ns = 0
        self.cpu_system_ns = 0
        self.cpu_per_cpu_ns: list[int] = []
        self.cpu_periods = 0
        self.cpu_throttled_periods = 0
        self.cpu_throttled_ns = 0
        self.memory_usage = 0
        self.memory_max_usage: int | None = None
        self.memory_limit: int | None = None
        self.memory_failures = 0
        self.memory_stat: dict[str, int] = {}
        self.pids_current = 0
        self.pids_limit: int | None = None
        self.io_bytes: list[IoCount] = []
        self.io_operations: list[IoCount] = []


def read_stats(cgroup: Cgroup) -> CgroupStats:
    """Read all counters. FileNotFoundError when the group is gone."""
    if not cgroup.exists():
        raise FileNotFoundError(errno.ENOENT, "the cgroup does not exist", cgroup.path)
    stats = CgroupStats()
    stats.unified = cgroup.layout.unified
    if stats.unified:
        _read_v2(cgroup.folder(""), stats)
    else:
        _read_v1(cgroup, stats)
    return stats


def _read_v1(cgroup: Cgroup, stats: CgroupStats) -> None:
    controllers = cgroup.layout.v1
    if "cpuacct" in controllers:
        folder = cgroup.folder("cpuacct")
        stats.cpu_usage_ns = _number(f"{folder}/cpuacct.usage") or 0
        stats.cpu_user_ns = _number(f"{folder}/cpuacct.usage_user") or 0
        stats.cpu_system_ns = _number(f"{folder}/cpuacct.usage_sys") or 0
        stats.cpu_per_cpu_ns = [
            int(value) for value in read_control(f"{folder}/cpuacct.usage_percpu", "").split()
        ]
    if "cpu" in controllers:
        throttling = read_flat(f"{cgroup.folder('cpu')}/cpu.stat")
        stats.cpu_periods = throttling.get("nr_periods", 0)
        stats.cpu_throttled_periods = throttling.get("nr_throttled", 0)
        stats.cpu_throttled_ns = throttling.get("throttled_time", 0)
    if "memory" in controllers:
        folder = cgroup.folder("memory")
        stats.memory_usage = _number(f"{folder}/memory.usage_in_bytes") or 0
        stats.memory_max_usage = _number(f"{folder}/memory.max_usage_in_bytes")
        stats.memory_limit = _number(f"{folder}/memory.limit_in_bytes")
        stats.memory_failures = _number(f"{folder}/memory.failcnt") or 0
        stats.memory_stat = read_flat(f"{folder}/memory.stat")
    if "pids" in controllers:
        folder = cgroup.folder("pids")
        stats.pids_current = _number(f"{folder}/pids.current") or 0
        stats.pids_limit = _number(f"{folder}/pids.max")
    if "blkio" in controllers:
        folder = cgroup.folder("blkio")
        stats.io_bytes = _io_v1(f"{folder}/blkio.throttle.io_service_bytes_recursive")
        stats.io_operations = _io_v1(f"{folder}/blkio.throttle.io_serviced_recursive")


def _read_v2(folder: str, stats: CgroupStats) -> None:
    cpu = read_flat(f"{folder}/cpu.stat")
    stats.cpu_usage_ns = cpu.get("usage_usec", 0) * 1000
    stats.cpu_user_ns = cpu.get("user_usec", 0) * 1000
    stats.cpu_system_ns = cpu.get("system_usec", 0) * 1000
    stats.cpu_periods = cpu.get("nr_periods", 0)
    stats.cpu_throttled_periods = cpu.get("nr_throttled", 0)
    stats.cpu_throttled_ns = cpu.get("throttled_usec", 0) * 1000
    stats.memory_usage = _number(f"{folder}/memory.current") or 0
    stats.memory_max_usage = _number(f"{folder}/memory.peak")
    stats.memory_limit = _number(f"{folder}/memory.max")
    stats.memory_failures = read_flat(f"{folder}/memory.events").get("max", 0)
    stats.memory_stat = read_flat(f"{folder}/memory.stat")
    stats.pids_current = _number(f"{folder}/pids.current") or 0
    stats.pids_limit = _number(f"{folder}/pids.max")
    for line in read_control(f"{folder}/io.stat", "").splitlines():
        device, *pairs = line.split()
        major, _, minor = device.partition(":")
        values = dict(pair.partition("=")[::2] for pair in pairs)
        for name, operation in (("rbytes", "read"), ("wbytes", "write"), ("dbytes", "discard")):
            if name in values:
                stats.io_bytes.append(IoCount(int(major), int(minor), operation, int(values[name])))
        for name, operation in (("rios", "read"), ("wios", "write"), ("dios", "discard")):
            if name in values:
                stats.io_operations.append(IoCount(int(major), int(minor), operation, int(values[name])))


def _io_v1(path: str) -> list[IoCount]:
    """Lines "MAJOR:MINOR Operation VALUE"; the closing "Total VALUE" is left out."""
    counts = []
    for line in read_control(path, "").splitlines():
        parts = line.split()
        if len(parts) == 3:
            major, _, minor = parts[0].partition(":")
            counts.append(IoCount(int(major), int(minor), parts[1], int(parts[2])))
    return counts


def _number(path: str) -> int | None:
    """The number in a file; None when there is no such file or it says "max"."""
    text = read_control(path, "max").strip()
    return None if text == "max" else int(text)
