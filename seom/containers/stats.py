"""What `docker stats` shows: one sample of a container's counters as the Engine API's document."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from seom.linux.cgroup import Cgroup
from seom.linux.cgroup_files import read_control
from seom.linux.cgroup_stats import CgroupStats, IoCount, read_stats

NEVER = "0001-01-01T00:00:00Z"
NO_LIMIT = (1 << 64) - 1


class CpuUsage(msgspec.Struct, frozen=True, omit_defaults=True):
    total_usage: int
    usage_in_kernelmode: int
    usage_in_usermode: int
    percpu_usage: list[int] = []


class Throttling(msgspec.Struct, frozen=True):
    periods: int = 0
    throttled_periods: int = 0
    throttled_time: int = 0


class CpuStats(msgspec.Struct, frozen=True, omit_defaults=True):
    cpu_usage: CpuUsage
    throttling_data: Throttling
    system_cpu_usage: int = 0
    online_cpus: int = 0


NOTHING_USED = CpuStats(CpuUsage(0, 0, 0), Throttling())


class MemoryStats(msgspec.Struct, frozen=True, omit_defaults=True):
    usage: int = 0
    max_usage: int = 0
    stats: dict[str, int] = {}
    failcnt: int = 0
    limit: int = 0


class PidsStats(msgspec.Struct, frozen=True, omit_defaults=True):
    current: int = 0
    limit: int = 0


class BlockIoEntry(msgspec.Struct, frozen=True):
    major: int
    minor: int
    op: str
    value: int


class BlockIoStats(msgspec.Struct, frozen=True):
    io_service_bytes_recursive: list[BlockIoEntry] | None = None
    io_serviced_recursive: list[BlockIoEntry] | None = None
    io_queue_recursive: None = None
    io_service_time_recursive: None = None
    io_wait_time_recursive: None = None
    io_merged_recursive: None = None
    io_time_recursive: None = None
    sectors_recursive: None = None


class NetworkStats(msgspec.Struct, frozen=True):
    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


class StatsDocument(msgspec.Struct, frozen=True):
    """The body of GET /containers/{id}/stats; networks is left out on the host's network."""

    name: str
    id: str
    read: str = NEVER
    preread: str = NEVER
    pids_stats: PidsStats = PidsStats()
    blkio_stats: BlockIoStats = BlockIoStats()
    num_procs: int = 0
    storage_stats: dict[str, int] = {}
    cpu_stats: CpuStats = NOTHING_USED
    precpu_stats: CpuStats = NOTHING_USED
    memory_stats: MemoryStats = MemoryStats()
    networks: dict[str, NetworkStats] | msgspec.UnsetType = msgspec.UNSET
    os_type: str = "linux"


class Sample(msgspec.Struct, frozen=True):
    """All counters at one moment; None for the network of the host."""

    read: str
    cgroup: CgroupStats
    system_cpu_ns: int
    online_cpus: int
    networks: dict[str, NetworkStats] | None


def take_sample(cgroup: Cgroup, pid: int, own_network: bool) -> Sample:
    """Read the counters of a running container; blocks for less than a millisecond.

    Raises OSError (ENOENT, ESRCH) when it has ended meanwhile.
    """
    system_ns, count = _system_cpu()
    return Sample(
        read=datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        cgroup=read_stats(cgroup),
        system_cpu_ns=system_ns,
        online_cpus=count,
        networks=_networks(pid) if own_network else None,
    )


def stats_document(id: str, name: str, sample: Sample, previous: Sample | None = None) -> StatsDocument:
    """The document for a sample; the one before it gives precpu_stats, from which clients take rates."""
    used = sample.cgroup
    return StatsDocument(
        name=f"/{name}",
        id=id,
        read=sample.read,
        preread=previous.read if previous else NEVER,
        pids_stats=PidsStats(used.pids_current, used.pids_limit or (NO_LIMIT if used.unified else 0)),
        blkio_stats=_block_io(used),
        cpu_stats=_cpu(sample),
        precpu_stats=_cpu(previous) if previous else NOTHING_USED,
        memory_stats=_memory(used),
        networks=msgspec.UNSET if sample.networks is None else sample.networks,
    )


def empty_document(id: str, name: str) -> StatsDocument:
    """The document of a container that does not run."""
    return StatsDocument(name=f"/{name}", id=id)


def _cpu(sample: Sample) -> CpuStats:
    used = sample.cgroup
    return CpuStats(
        cpu_usage=CpuUsage(used.cpu_usage_ns, used.cpu_system_ns, used.cpu_user_ns, used.cpu_per_cpu_ns),
        throttling_data=Throttling(used.cpu_periods, used.cpu_throttled_periods, used.cpu_throttled_ns),
        system_cpu_usage=sample.system_cpu_ns,
        online_cpus=sample.online_cpus,
    )


def _memory(used: CgroupStats) -> MemoryStats:
    """As Docker does, a limit above what the machine has is shown as what the machine has."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = machine if used.memory_limit is None else min(used.memory_limit, machine)
    if used.unified:
        return MemoryStats(usage=used.memory_usage, stats=used.memory_stat, limit=limit)
    return MemoryStats(
        used.memory_usage, used.memory_max_usage or 0, used.memory_stat, used.memory_failures, limit
    )


def _block_io(used: CgroupStats) -> BlockIoStats:
    """On v2 Docker shows bytes only."""
    return BlockIoStats(_entries(used.io_bytes), None if used.unified else _entries(used.io_operations))


def _entries(counts: Iterable[IoCount]) -> list[BlockIoEntry]:
    return [BlockIoEntry(count.major, count.minor, count.operation, count.value) for count in counts]


def _system_cpu() -> tuple[int, int]:
    """All CPU time of the host, idle time included, in nanoseconds; and how many CPUs are online."""
    lines = read_control("/proc/stat").splitlines()
    ticks = sum(int(value) for value in lines[0].split()[1:8])
    count = sum(1 for line in lines[1:] if line.startswith("cpu"))
    return ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK"), count


def _networks(pid: int) -> dict[str, NetworkStats]:
    """The counters of every interface but lo, from /proc/PID/net/dev (see proc(5))."""
    found = {}
    for line in read_control(f"/proc/{pid}/net/dev").splitlines()[2:]:
        name, _, numbers = line.partition(":")
        values = [int(value) for value in numbers.split()]
        if name.strip() != "lo":
            found[name.strip()] = NetworkStats(*values[:4], *values[8:12])
    return found
