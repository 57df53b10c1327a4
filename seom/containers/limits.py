"""The runtime specification's resource limits in the kernel's own terms, for cgroup v1 and v2."""

from __future__ import annotations

import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from seom.linux.cgroup import Layout, Setting
    from seom.linux.cgroup_devices import Rule
    from seom.oci.runtime_spec import BlockIo, CpuLimits, MemoryLimits, Resources, ThrottleDevice

MAX_SWAP = -1


def cgroup_settings(resources: Resources, layout: Layout) -> list[Setting]:
    """The control files to write, in order, for the kind of cgroups the host has (devices apart).

    Values that v2 cannot express (kernel memory, disabling the OOM killer) are left out, as the
    specification allows; InvalidParameter is the concern of whoever built the resources.
    """
    if layout.unified:
        return _v2(resources)
    return _v1(resources)


# What every container may use: making any node, the standard character devices, its terminals.
STANDARD_DEVICES: tuple[Rule, ...] = (
    (True, "c", None, None, "m"),
    (True, "b", None, None, "m"),
    (True, "c", 1, 3, "rwm"),  # null
    (True, "c", 1, 5, "rwm"),  # zero
    (True, "c", 1, 7, "rwm"),  # full
    (True, "c", 1, 8, "rwm"),  # random
    (True, "c", 1, 9, "rwm"),  # urandom
    (True, "c", 5, 0, "rwm"),  # tty
    (True, "c", 5, 1, "rwm"),  # console
    (True, "c", 5, 2, "rwm"),  # ptmx
    (True, "c", 136, None, "rwm"),  # pts/*
)


def device_rules(resources: Resources) -> list[Rule]:
    """All device rules of a new container: those asked for, then what every container may use."""
    asked = [
        (rule.allow, rule.type or "a", rule.major, rule.minor, rule.access or "rwm")
        for rule in resources.devices
    ]
    if asked == [(True, "a", None, None, "rwm")]:
        return list(asked)
    return [(False, "a", None, None, "rwm"), *asked, *STANDARD_DEVICES]


def cpu_weight(shares: int) -> int:
    """Translate v1 shares (2..262144, 1024 is normal) to a v2 weight (1..10000, 100 is normal).

    The curve through (2, 1), (1024, 100) and (262144, 10000) that crun and runc use, so that a
    container with the default keeps the default.
    """
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    logarithm = math.log2(shares)
    exponent = (logarithm * logarithm + 125 * logarithm) / 612.0 - 7.0 / 34.0
    return math.ceil(10**exponent)


def blkio_weight(weight: int) -> int:
    """Translate a v1 weight (10..1000) to io.weight's range (1..10000)."""
    return 1 + (weight - 10) * 9999 // 990


# -- v1


def _v1(resources: Resources) -> list[Setting]:
    settings: list[Setting] = []
    if resources.cpu:
        settings += _v1_cpu(resources.cpu)
    if resources.memory:
        settings += _v1_memory(resources.memory)
    if resources.pids:
        settings.append(("pids.max", _count(resources.pids.limit)))
    if resources.block_io:
        settings += _v1_block_io(resources.block_io)
    for limit in resources.hugepage_limits:
        settings.append((f"hugetlb.{limit.page_size}.limit_in_bytes", str(limit.limit)))
    return settings


def _v1_cpu(cpu: CpuLimits) -> list[Setting]:
    return [
        *_number("cpu.shares", cpu.shares or None),
        *_number("cpu.cfs_period_us", cpu.period or None),
        *_number("cpu.cfs_quota_us", cpu.quota or None),
        *_number("cpu.cfs_burst_us", cpu.burst),
        *_number("cpu.rt_period_us", cpu.realtime_period or None),
        *_number("cpu.rt_runtime_us", cpu.realtime_runtime or None),
        *_number("cpu.idle", cpu.idle),
        *_text("cpuset.cpus", cpu.cpus),
        *_text("cpuset.mems", cpu.mems),
    ]


def _v1_memory(memory: MemoryLimits) -> list[Setting]:
    settings = [
        *_number("memory.limit_in_bytes", memory.limit or None),
        *_number("memory.memsw.limit_in_bytes", memory.swap or None),
        *_number("memory.soft_limit_in_bytes", memory.reservation or None),
    ]
    if memory.swappiness is not None and 0 <= memory.swappiness <= 100:
        settings.append(("memory.swappiness", str(memory.swappiness)))
    if memory.disable_oom_killer:
        settings.append(("memory.oom_control", "1"))
    return settings


def _v1_block_io(block_io: BlockIo) -> list[Setting]:
    settings = _number("blkio.bfq.weight", block_io.weight or None)
    for device in block_io.weight_device:
        settings += _text("blkio.bfq.weight_device", f"{device.major}:{device.minor} {device.weight or 0}")
    for file, devices in (
        ("read_bps", block_io.throttle_read_bps_device),
        ("write_bps", block_io.throttle_write_bps_device),
        ("read_iops", block_io.throttle_read_iops_device),
        ("write_iops", block_io.throttle_write_iops_device),
    ):
        for throttle in devices:
            value = f"{throttle.major}:{throttle.minor} {throttle.rate}"
            settings.append((f"blkio.throttle.{file}_device", value))
    return settings


# -- v2


def _v2(resources: Resources) -> list[Setting]:
    settings: list[Setting] = []
    if resources.cpu:
        settings += _v2_cpu(resources.cpu)
    if resources.memory:
        settings += _v2_memory(resources.memory)
    if resources.pids:
        settings.append(("pids.max", _count(resources.pids.limit)))
    if resources.block_io:
        settings += _v2_block_io(resources.block_io)
    for limit in resources.hugepage_limits:
        settings.append((f"hugetlb.{limit.page_size}.max", str(limit.limit)))
    return settings + list(resources.unified.items())


def _v2_cpu(cpu: CpuLimits) -> list[Setting]:
    settings: list[Setting] = []
    if cpu.shares:
        settings.append(("cpu.weight", str(cpu_weight(cpu.shares))))
    if cpu.quota or cpu.period:
        quota = "max" if cpu.quota is None or cpu.quota <= 0 else str(cpu.quota)
        settings.append(("cpu.max", f"{quota} {cpu.period or 100_000}"))
    settings += _number("cpu.max.burst", cpu.burst)
    settings += _number("cpu.idle", cpu.idle)
    return [*settings, *_text("cpuset.cpus", cpu.cpus), *_text("cpuset.mems", cpu.mems)]


def _v2_memory(memory: MemoryLimits) -> list[Setting]:
    """memory.swap.max counts swap alone, where the specification counts memory and swap together."""
    settings: list[Setting] = []
    if memory.swap == MAX_SWAP or (memory.limit == -1 and not memory.swap):
        settings.append(("memory.swap.max", "max"))
    elif memory.swap and memory.limit and memory.limit > 0:
        settings.append(("memory.swap.max", str(max(0, memory.swap - memory.limit))))
    if memory.limit:
        settings.append(("memory.max", _count(memory.limit)))
    if memory.reservation:
        settings.append(("memory.low", _count(memory.reservation)))
    return settings


def _v2_block_io(block_io: BlockIo) -> list[Setting]:
    settings: list[Setting] = []
    if block_io.weight:
        settings.append(("io.weight", f"default {blkio_weight(block_io.weight)}"))
    for device in block_io.weight_device:
        weight = blkio_weight(device.weight or 10)
        settings.append(("io.weight", f"{device.major}:{device.minor} {weight}"))
    for key, devices in (
        ("rbps", block_io.throttle_read_bps_device),
        ("wbps", block_io.throttle_write_bps_device),
        ("riops", block_io.throttle_read_iops_device),
        ("wiops", block_io.throttle_write_iops_device),
    ):
        settings += [("io.max", _v2_throttle(key, throttle)) for throttle in devices]
    return settings


def _v2_throttle(key: str, throttle: ThrottleDevice) -> str:
    rate = throttle.rate or "max"
    return f"{throttle.major}:{throttle.minor} {key}={rate}"


def _number(file: str, value: int | None) -> list[Setting]:
    return [] if value is None else [(file, str(value))]


def _text(file: str, value: str) -> list[Setting]:
    return [(file, value)] if value else []


def _count(value: int) -> str:
    """A limit on v2 and of pids: nothing or less means no limit."""
    return str(value) if value > 0 else "max"
