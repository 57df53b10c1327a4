"""The host and this daemon, as ``info`` and ``version`` tell."""

from __future__ import annotations

import functools
import os
import platform
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import seom
from seom.engine.timestamps import format_timestamp
from seom.linux import apparmor
from seom.linux.cgroup import Layout, host_layout

Json = dict[str, Any]

LOG_DRIVERS = ("json-file", "local", "none")
NETWORK_DRIVERS = ("bridge", "host", "null")
DEFAULT_REGISTRY = "https://index.docker.io/v1/"
STORAGE_DRIVER = "overlay2"
RUNTIME = "seom"

# Go's names, which image indexes and clients use.
_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "i686": "386",
    "riscv64": "riscv64",
    "s390x": "s390x",
    "ppc64le": "ppc64le",
}
_PACKAGE = Path(seom.__file__).parent


@dataclass(frozen=True, slots=True)
class Counts:
    """How many objects the daemon has."""

    running: int = 0
    paused: int = 0
    stopped: int = 0
    images: int = 0


def architecture() -> str:
    """The host's architecture in the words of image indexes: amd64, arm64 ..."""
    machine = os.uname().machine
    return _ARCHITECTURES.get(machine, machine)


def version_document(api_version: str, min_api_version: str) -> Json:
    """The answer to GET /version."""
    kernel = os.uname().release
    python = f"Python {platform.python_version()}"
    built = format_timestamp(int(_PACKAGE.joinpath("__init__.py").stat().st_mtime) * 10**9)
    details = {
        "ApiVersion": api_version,
        "Arch": architecture(),
        "BuildTime": built,
        "Experimental": "false",
        "GitCommit": git_commit(),
        "GoVersion": python,
        "KernelVersion": kernel,
        "MinAPIVersion": min_api_version,
        "Os": "linux",
    }
    return {
        "Platform": {"Name": "Seom"},
        "Components": [{"Name": "Engine", "Version": seom.__version__, "Details": details}],
        "Version": seom.__version__,
        "ApiVersion": api_version,
        "MinAPIVersion": min_api_version,
        "GitCommit": git_commit(),
        "GoVersion": python,
        "Os": "linux",
        "Arch": architecture(),
        "KernelVersion": kernel,
        "BuildTime": built,
    }


@functools.cache
def git_commit() -> str:
    """The commit of a checkout that Seom runs from, abbreviated; empty for an installed package."""
    git = _PACKAGE.parent / ".git"
    try:
        if git.is_file():
            git = Path(git.read_text().removeprefix("gitdir:").strip())
        head = git.joinpath("HEAD").read_text().strip()
        if head.startswith("ref: "):
            reference = head.removeprefix("ref: ")
            common = git / git.joinpath("commondir").read_text().strip() if _is_worktree(git) else git
            head = common.joinpath(reference).read_text().strip()
    except OSError:
        return ""
    return head[:7]


def _is_worktree(git: Path) -> bool:
    return git.joinpath("commondir").exists()


def info_document(data_root: Path, counts: Counts, listeners: int, insecure: tuple[str, ...] = ()) -> Json:
    """The answer to GET /info; listeners is the number of open event streams. Reads a few small files."""
    system, layout = os.uname(), host_layout()
    release = os_release()
    return {
        "ID": daemon_id(data_root),
        "Containers": counts.running + counts.paused + counts.stopped,
        "ContainersRunning": counts.running,
        "ContainersPaused": counts.paused,
        "ContainersStopped": counts.stopped,
        "Images": counts.images,
        "Driver": STORAGE_DRIVER,
        "DriverStatus": _driver_status(data_root),
        "Plugins": {
            "Volume": ["local"],
            "Network": list(NETWORK_DRIVERS),
            "Authorization": None,
            "Log": list(LOG_DRIVERS),
        },
        **_limits(layout),
        "IPv4Forwarding": _sysctl("net/ipv4/ip_forward") == "1",
        "Debug": False,
        "NFd": len(os.listdir("/proc/self/fd")),
        "NGoroutines": 0,
        "SystemTime": format_timestamp(time.time_ns()),
        "LoggingDriver": LOG_DRIVERS[0],
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": "2" if layout.unified else "1",
        "NEventsListener": listeners,
        "KernelVersion": system.release,
        "OperatingSystem": release.get("PRETTY_NAME", "Linux"),
        "OSVersion": release.get("VERSION_ID", ""),
        "OSType": "linux",
        "Architecture": system.machine,
        "IndexServerAddress": DEFAULT_REGISTRY,
        "RegistryConfig": _registry_config(insecure),
        "NCPU": len(os.sched_getaffinity(0)),
        "MemTotal": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "GenericResources": None,
        "DockerRootDir": str(data_root),
        "HttpProxy": _environment("http_proxy"),
        "HttpsProxy": _environment("https_proxy"),
        "NoProxy": _environment("no_proxy"),
        "Name": system.nodename,
        "Labels": [],
        "ExperimentalBuild": False,
        "ServerVersion": seom.__version__,
        "Runtimes": {RUNTIME: {"path": "seom-runtime"}},
        "DefaultRuntime": RUNTIME,
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": False,
            "Error": "",
            "RemoteManagers": None,
        },
        "LiveRestoreEnabled": True,
        "Isolation": "",
        "InitBinary": "seom-init",
        "ContainerdCommit": {"ID": ""},
        "RuncCommit": {"ID": ""},
        "InitCommit": {"ID": ""},
        "SecurityOptions": security_options(layout),
        "FirewallBackend": {"Driver": "nftables"},
        "CDISpecDirs": [],
        "Warnings": warnings(layout) or None,
    }


def daemon_id(data_root: Path) -> str:
    """A random identity that stays with the data root."""
    path = data_root / "engine-id"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        identity = str(uuid.uuid4())
        data_root.mkdir(parents=True, exist_ok=True)
        path.write_text(identity + "\n")
        return identity


def os_release() -> Mapping[str, str]:
    """The fields of os-release(5); empty where there is none."""
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def security_options(layout: Layout) -> list[str]:
    """The kinds of confinement that containers get on this host."""
    options = ["name=apparmor"] if apparmor.enabled() else []
    if Path("/proc/sys/kernel/seccomp/actions_avail").exists():
        options.append("name=seccomp,profile=builtin")
    return [*options, *(["name=cgroupns"] if layout.unified else [])]


def warnings(layout: Layout) -> list[str]:
    """What this host cannot do, in the words that the docker command line prints."""
    limits = _limits(layout)
    return [
        f"WARNING: No {name} support"
        for key, name in (
            ("MemoryLimit", "memory limit"),
            ("SwapLimit", "swap limit"),
            ("CpuCfsPeriod", "cpu cfs period"),
            ("CpuCfsQuota", "cpu cfs quota"),
            ("CPUShares", "cpu shares"),
            ("CPUSet", "cpuset"),
            ("PidsLimit", "pids limit"),
        )
        if not limits[key]
    ]


def _limits(layout: Layout) -> Json:
    v2 = layout.v2_controllers if layout.unified else frozenset()
    return {
        "MemoryLimit": "memory" in v2 or layout.has("memory.limit_in_bytes"),
        "SwapLimit": "memory" in v2 or layout.has("memory.memsw.limit_in_bytes"),
        "CpuCfsPeriod": "cpu" in v2 or layout.has("cpu.cfs_period_us"),
        "CpuCfsQuota": "cpu" in v2 or layout.has("cpu.cfs_quota_us"),
        "CPUShares": "cpu" in v2 or layout.has("cpu.shares"),
        "CPUSet": "cpuset" in v2 or layout.has("cpuset.cpus"),
        "PidsLimit": "pids" in v2 or "pids" in layout.v1,
        "OomKillDisable": not layout.unified and layout.has("memory.oom_control"),
    }


def _driver_status(data_root: Path) -> list[list[str]]:
    return [["Backing Filesystem", _filesystem(data_root)], ["Supports d_type", "true"]]


def _filesystem(path: Path) -> str:
    """The type of the file system that holds path, from the longest matching mount point."""
    real, best, found = os.path.realpath(path), "", ""
    with open("/proc/self/mountinfo") as table:
        for line in table:
            before, _, after = line.partition(" - ")
            target = before.split(" ")[4]
            if len(target) >= len(best) and f"{real}/".startswith(target.rstrip("/") + "/"):
                best, found = target, after.split(" ")[0]
    return found


def _registry_config(insecure: tuple[str, ...]) -> Json:
    networks = [name for name in insecure if "/" in name]
    hosts = {
        name: {"Name": name, "Mirrors": [], "Secure": False, "Official": False}
        for name in insecure
        if "/" not in name
    }
    official = {"Name": "docker.io", "Mirrors": [], "Secure": True, "Official": True}
    return {
        "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8", *networks],
        "IndexConfigs": {"docker.io": official, **hosts},
        "Mirrors": None,
    }


def _environment(name: str) -> str:
    value = os.environ.get(name.upper()) or os.environ.get(name) or ""
    return re.sub(r"//[^@/]+@", "//xxxxx:xxxxx@", value)


def _sysctl(name: str) -> str:
    try:
        return Path("/proc/sys", name).read_text().strip()
    except OSError:
        return ""
