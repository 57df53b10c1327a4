"""Memory, CPU, process and disk limits: Docker's options checked, and made into the specification's."""

from __future__ import annotations

import os
import re

from seom.containers.config import HostConfig, ThrottleDevice, WeightDevice
from seom.errors import InvalidParameter
from seom.linux.cgroup import Layout, host_layout
from seom.linux.cgroup_files import read_control
from seom.oci import runtime_spec as oci

MINIMUM_MEMORY_BYTES = 6 << 20
DEFAULT_CPU_PERIOD_US = 100_000
NO_SUPPORT = "Your kernel does not support {} or the cgroup is not mounted. {}"

# Which control file a limit needs, on v1 and on v2 (None: v2 has no such limit).
CONTROLS: dict[str, tuple[str, str | None]] = {
    "memory": ("memory.limit_in_bytes", "memory.max"),
    "swap": ("memory.memsw.limit_in_bytes", "memory.swap.max"),
    "reservation": ("memory.soft_limit_in_bytes", "memory.low"),
    "swappiness": ("memory.swappiness", None),
    "oom_control": ("memory.oom_control", None),
    "shares": ("cpu.shares", "cpu.weight"),
    "quota": ("cpu.cfs_quota_us", "cpu.max"),
    "realtime": ("cpu.rt_runtime_us", None),
    "cpuset": ("cpuset.cpus", "cpuset.cpus"),
    "pids": ("pids.max", "pids.max"),
    "weight": ("blkio.bfq.weight", "io.weight"),
    "throttle": ("blkio.throttle.read_bps_device", "io.max"),
}


def supports(limit: str, layout: Layout | None = None) -> bool:
    """Can this host enforce a limit of CONTROLS? What `info` reports, too.

    (The v1 pids and blkio files are absent from the root group, so there the controller decides.)
    """
    layout = layout or host_layout()
    v1, v2 = CONTROLS[limit]
    if layout.unified:
        return v2 is not None and layout.has(v2)
    return layout.has(v1) or (limit == "pids" and "pids" in layout.v1)


def check_resources(host: HostConfig, update: bool = False, layout: Layout | None = None) -> list[str]:
    """Refuse limits that cannot be, with Docker's words; drop, in place, those this host lacks.

    Returns a warning for each limit that was dropped. With update, unset members are not looked at.
    """
    layout = layout or host_layout()
    warnings = _check_memory(host, update, layout)
    warnings += _check_cpu(host, layout)
    _check_cpuset(host, layout)
    if host.pids_limit and host.pids_limit > 0 and not supports("pids", layout):
        host.pids_limit = None
        warnings.append(NO_SUPPORT.format("PIDs limit capabilities", "PIDs limit discarded."))
    warnings += _check_block_io(host, layout)
    return warnings


def resources_of(host: HostConfig) -> oci.Resources:
    """The limits of a checked host configuration, without devices; for a start and for an update."""
    return oci.Resources(memory=_memory(host), cpu=_cpu(host), pids=_pids(host), block_io=_block_io(host))


# -- checks


def _check_memory(host: HostConfig, update: bool, layout: Layout) -> list[str]:
    warnings = []
    if host.memory < 0 or host.memory_reservation < 0:
        raise InvalidParameter("Memory limits cannot be negative; leave the option out for no limit")
    if 0 < host.memory < MINIMUM_MEMORY_BYTES:
        raise InvalidParameter("Minimum memory limit allowed is 6MB")
    if host.memory > 0 and not supports("memory", layout):
        host.memory, host.memory_swap = 0, -1
        warnings.append(NO_SUPPORT.format("memory limit capabilities", "Limitation discarded."))
    if host.memory > 0 and host.memory_swap != -1 and not supports("swap", layout):
        host.memory_swap = -1
        text = NO_SUPPORT.format("swap limit capabilities", "Memory limited without swap.")
        warnings.append(text)
    if host.memory > 0 and 0 < host.memory_swap < host.memory:
        raise InvalidParameter("Minimum memoryswap limit should be larger than memory limit, see usage")
    if host.memory == 0 and host.memory_swap > 0 and not update:
        raise InvalidParameter(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    if host.memory_swappiness is not None:
        if not -1 <= host.memory_swappiness <= 100:
            raise InvalidParameter(
                f"Invalid value: {host.memory_swappiness}, valid memory swappiness range is 0-100"
            )
        if host.memory_swappiness == -1:
            host.memory_swappiness = None
        elif not supports("swappiness", layout):
            host.memory_swappiness = None
            text = NO_SUPPORT.format("memory swappiness capabilities,", "Memory swappiness discarded.")
            warnings.append(text)
    return warnings + _check_reservation(host, layout) + _check_oom(host, update, layout)


def _check_reservation(host: HostConfig, layout: Layout) -> list[str]:
    if 0 < host.memory_reservation < MINIMUM_MEMORY_BYTES:
        raise InvalidParameter("Minimum memory reservation allowed is 6MB")
    if 0 < host.memory < host.memory_reservation:
        raise InvalidParameter(
            "Minimum memory limit can not be less than memory reservation limit, see usage"
        )
    if host.memory_reservation and not supports("reservation", layout):
        host.memory_reservation = 0
        return [NO_SUPPORT.format("memory soft limit capabilities", "Limitation discarded.")]
    return []


def _check_oom(host: HostConfig, update: bool, layout: Layout) -> list[str]:
    if host.oom_kill_disable and not supports("oom_control", layout):
        host.oom_kill_disable = None
        return ["Your kernel does not support OomKillDisable. OomKillDisable discarded."]
    if host.oom_kill_disable and not host.memory and not update:
        return [
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the"
            " system running out of resources."
        ]
    return []


def _check_cpu(host: HostConfig, layout: Layout) -> list[str]:
    if host.nano_cpus and host.cpu_period:
        raise InvalidParameter("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if host.nano_cpus and host.cpu_quota:
        raise InvalidParameter("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    count = os.cpu_count() or 1
    if host.nano_cpus < 0 or host.nano_cpus > count * 1_000_000_000:
        raise InvalidParameter(
            f"range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available"
        )
    if host.cpu_shares < 0:
        raise InvalidParameter(f"invalid CPU shares ({host.cpu_shares}): value must be a positive integer")
    if host.cpu_period and not 1000 <= host.cpu_period <= 1_000_000:
        raise InvalidParameter(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if 0 < host.cpu_quota < 1000:
        raise InvalidParameter("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if (host.cpu_realtime_period or host.cpu_realtime_runtime) and not supports("realtime", layout):
        raise InvalidParameter("kernel does not support CPU real-time scheduler")
    if host.cpu_realtime_period and host.cpu_realtime_runtime > host.cpu_realtime_period:
        raise InvalidParameter("cpu real-time runtime cannot be higher than cpu real-time period")
    return _drop_cpu(host, layout)


def _drop_cpu(host: HostConfig, layout: Layout) -> list[str]:
    warnings = []
    if host.cpu_shares and not supports("shares", layout):
        host.cpu_shares = 0
        warnings.append(NO_SUPPORT.format("CPU shares", "Shares discarded."))
    if (host.cpu_period or host.cpu_quota or host.nano_cpus) and not supports("quota", layout):
        host.cpu_period = host.cpu_quota = host.nano_cpus = 0
        warnings.append(NO_SUPPORT.format("CPU cfs period/quota", "Period and quota discarded."))
    return warnings


def _check_cpuset(host: HostConfig, layout: Layout) -> None:
    for kind, noun, wanted in (
        ("cpus", "CPUs", host.cpuset_cpus),
        ("mems", "memory nodes", host.cpuset_mems),
    ):
        numbers = parse_cpuset(wanted)
        if numbers is None:
            raise InvalidParameter(f"Invalid value {wanted} for cpuset {kind}: invalid format: {wanted}")
        available = _available(kind, layout)
        if numbers and available is not None and not numbers <= (parse_cpuset(available) or set()):
            raise InvalidParameter(
                f"Requested {noun} are not available - requested {wanted}, available: {available}"
            )


def parse_cpuset(text: str) -> set[int] | None:
    """The numbers in a list such as "0-2,7" (see cpuset(7)); None when it is none."""
    numbers: set[int] = set()
    for part in text.split(",") if text else []:
        match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part)
        if match is None:
            return None
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            return None
        numbers.update(range(first, last + 1))
    return numbers


def _available(kind: str, layout: Layout) -> str | None:
    """What cpuset can give; None when the host does not tell."""
    if layout.unified:
        return read_control(f"{layout.v2}/cpuset.{kind}.effective", missing="").strip() or None
    if "cpuset" not in layout.v1:
        return None
    return read_control(f"{layout.v1['cpuset']}/cpuset.{kind}", missing="").strip() or None


def _check_block_io(host: HostConfig, layout: Layout) -> list[str]:
    warnings = []
    if host.blkio_weight and not supports("weight", layout):
        host.blkio_weight = 0
        warnings.append(NO_SUPPORT.format("Block I/O weight", "Weight discarded."))
    if host.blkio_weight and not 10 <= host.blkio_weight <= 1000:
        raise InvalidParameter("Range of blkio weight is from 10 to 1000")
    if host.blkio_weight_device and not supports("weight", layout):
        host.blkio_weight_device = None
        warnings.append(NO_SUPPORT.format("Block I/O weight_device", "Weight-device discarded."))
    for device in host.blkio_weight_device or []:
        _device_numbers(device)
    for member, name in (
        ("blkio_device_read_bps", "BPS Block I/O read limit"),
        ("blkio_device_write_bps", "BPS Block I/O write limit"),
        ("blkio_device_read_iops", "IOPS Block read limit"),
        ("blkio_device_write_iops", "IOPS Block write limit"),
    ):
        for throttle in getattr(host, member) or []:
            _device_numbers(throttle)
        if getattr(host, member) and not supports("throttle", layout):
            setattr(host, member, None)
            warnings.append(NO_SUPPORT.format(name, f"Block I/O {name.split()[0]} limit discarded."))
    return warnings


# -- conversion


def _memory(host: HostConfig) -> oci.MemoryLimits | None:
    limits = oci.MemoryLimits(
        limit=host.memory or None,
        swap=host.memory_swap or None,
        reservation=host.memory_reservation or None,
        disable_oom_killer=host.oom_kill_disable or None,
    )
    if host.memory_swappiness is not None and host.memory_swappiness >= 0:
        limits.swappiness = host.memory_swappiness
    return limits


def _cpu(host: HostConfig) -> oci.CpuLimits:
    limits = oci.CpuLimits(
        shares=host.cpu_shares or None,
        quota=host.cpu_quota or None,
        period=host.cpu_period or None,
        realtime_period=host.cpu_realtime_period or None,
        realtime_runtime=host.cpu_realtime_runtime or None,
        cpus=host.cpuset_cpus,
        mems=host.cpuset_mems,
    )
    if host.nano_cpus:
        limits.period = DEFAULT_CPU_PERIOD_US
        limits.quota = host.nano_cpus * DEFAULT_CPU_PERIOD_US // 1_000_000_000
    return limits


def _pids(host: HostConfig) -> oci.PidsLimit | None:
    return None if host.pids_limit is None else oci.PidsLimit(limit=host.pids_limit or -1)


def _block_io(host: HostConfig) -> oci.BlockIo | None:
    weights = []
    for device in host.blkio_weight_device or []:
        major, minor = _device_numbers(device)
        weights.append(oci.WeightDevice(major, minor, device.weight))
    limits = oci.BlockIo(
        weight=host.blkio_weight or None,
        weight_device=weights,
        throttle_read_bps_device=_throttles(host.blkio_device_read_bps),
        throttle_write_bps_device=_throttles(host.blkio_device_write_bps),
        throttle_read_iops_device=_throttles(host.blkio_device_read_iops),
        throttle_write_iops_device=_throttles(host.blkio_device_write_iops),
    )
    return None if limits == oci.BlockIo() else limits


def _throttles(devices: list[ThrottleDevice] | None) -> list[oci.ThrottleDevice]:
    return [oci.ThrottleDevice(*_device_numbers(device), device.rate) for device in devices or []]


def _device_numbers(device: ThrottleDevice | WeightDevice) -> tuple[int, int]:
    try:
        number = os.stat(device.path).st_rdev
    except OSError as error:
        raise InvalidParameter(f"stat {device.path}: {(error.strerror or '').lower()}") from error
    return os.major(number), os.minor(number)
