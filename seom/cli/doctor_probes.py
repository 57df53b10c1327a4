"""The single checks of doctor. Each looks at the machine and changes nothing."""

from __future__ import annotations

import os
import shutil

from seom.cli import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_MINIMUM_KERNEL = (5, 10)
_COMFORTABLE_BYTES = 5_000_000_000
_NAMESPACES = ("mnt", "pid", "net", "ipc", "uts", "cgroup", "user")
_CONTROLLERS = ("cpu", "memory", "pids", "cpuset", "io", "devices", "freezer")


class Finding:
    """The result of one check. state: ok, warn (works with less) or missing (containers do not run)."""

    __slots__ = ("found", "name", "remedy", "state", "why")

    def __init__(self, name: str, state: str, found: str, why: str, remedy: str = "") -> None:
        self.name = name
        self.state = state
        self.found = found
        self.why = why
        self.remedy = remedy


def examine(data_root: str) -> Iterator[Finding]:
    """Every check, in the order in which a container needs it."""
    yield from (_kernel(), _privilege(), _namespaces(), _overlay(), _cgroup_version())
    yield from (_controllers(), _seccomp(), _apparmor(), _forwarding())
    yield from (_nftables(), _library("libseccomp", "libseccomp.so.2", "libseccomp2", _SECCOMP_WHY))
    yield from (_kvm(), _disk(data_root), _open_files(), _user_namespaces())
    for program, package, why in _PROGRAMS:
        yield _program(program, package, why)


_SECCOMP_WHY = "containers' system calls are filtered by rules that it compiles"

_PROGRAMS = (
    ("mmdebstrap", "mmdebstrap", "makes a Debian image without a registry"),
    ("busybox", "busybox-static", "makes a tiny image without a registry"),
    ("docker", "docker-cli", "Docker's own command line works with Seom too: set DOCKER_HOST"),
    ("qemu-system-" + os.uname().machine, "qemu-system", "runs images as virtual machines"),
)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _kernel() -> Finding:
    release = os.uname().release
    digits = "".join(letter if letter.isdigit() else " " for letter in release).split()
    version = (int(digits[0]), int(digits[1]))
    why = "pidfds, openat2, clone3 and time-of-check-safe mounts come with newer kernels"
    state = "ok" if version >= _MINIMUM_KERNEL else "missing"
    wanted = ".".join(map(str, _MINIMUM_KERNEL))
    return Finding("kernel", state, f"Linux {release}", why, f"install a kernel of version {wanted} or later")


def _privilege() -> Finding:
    why = "the daemon makes namespaces, mounts and cgroups; the command line itself needs no privilege"
    if os.geteuid() == 0:
        return Finding("privilege", "ok", "root", why)
    return Finding("privilege", "warn", f"user {os.geteuid()}", why, "run the daemon as root (sudo seomd)")


def _namespaces() -> Finding:
    absent = [name for name in _NAMESPACES if not os.path.exists(f"/proc/self/ns/{name}")]
    why = "they are what a container is made of"
    if not absent:
        return Finding("namespaces", "ok", ", ".join(_NAMESPACES), why)
    state = "warn" if absent == ["user"] else "missing"
    return Finding("namespaces", state, f"without {', '.join(absent)}", why, "use a kernel with CONFIG_*_NS")


def _overlay() -> Finding:
    why = "a container's files are its image's layers and a writable one, stacked by overlayfs"
    if "\toverlay" in _read("/proc/filesystems"):
        return Finding("overlayfs", "ok", "in the kernel", why)
    module = f"/lib/modules/{os.uname().release}/kernel/fs/overlayfs"
    if os.path.isdir(module):
        return Finding("overlayfs", "ok", "a module, loaded when needed", why)
    return Finding(
        "overlayfs", "missing", "not in this kernel", why, "modprobe overlay, or CONFIG_OVERLAY_FS"
    )


def _cgroup_mounts() -> tuple[list[str], list[str]]:
    """Controllers of the v1 hierarchies, and of the v2 tree (with "" when it is mounted at all)."""
    first: list[str] = []
    second: list[str] = []
    for line in _read("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = [*after.split(" ", 2), "", ""][:3]
        if kind == "cgroup2":
            second.append("")
            second += _read(before.split(" ")[4] + "/cgroup.controllers").split()
        elif kind == "cgroup":
            first += [
                word
                for word in options.split(",")
                if word not in ("rw", "ro") and not word.startswith("name=")
            ]
    return first, second


def _cgroup_version() -> Finding:
    first, second = _cgroup_mounts()
    why = "limits, statistics and freezing need control groups; v2 also counts pressure and kills at once"
    if first and second:
        return Finding("cgroups", "ok", "hybrid: v1 controllers and a v2 tree", why)
    if second:
        return Finding("cgroups", "ok", "v2", why)
    if first:
        return Finding("cgroups", "ok", "v1", why)
    return Finding("cgroups", "missing", "not mounted", why, "mount -t cgroup2 none /sys/fs/cgroup")


def _controllers() -> Finding:
    first, second = _cgroup_mounts()
    have = set(first) | set(second) | ({"devices", "freezer"} if "" in second and not first else set())
    if "blkio" in have:
        have.add("io")
    absent = [name for name in _CONTROLLERS if name not in have]
    why = "a limit whose controller is absent is refused (--memory, --cpus, --pids-limit ...)"
    if not absent:
        return Finding("controllers", "ok", ", ".join(_CONTROLLERS), why)
    remedy = "enable them in cgroup.subtree_control, or remove cgroup_disable= from the kernel's command line"
    return Finding("controllers", "warn", f"without {', '.join(absent)}", why, remedy)


def _seccomp() -> Finding:
    why = "it keeps dangerous system calls away from containers"
    actions = _read("/proc/sys/kernel/seccomp/actions_avail")
    if "errno" in actions:
        return Finding("seccomp", "ok", "filters are available", why)
    return Finding("seccomp", "missing", "not in this kernel", why, "use a kernel with CONFIG_SECCOMP_FILTER")


def _apparmor() -> Finding:
    why = "a second fence around containers on hosts that have it"
    if _read("/sys/module/apparmor/parameters/enabled").startswith("Y"):
        return Finding("apparmor", "ok", "enabled", why)
    return Finding("apparmor", "ok", "not on this host (optional)", why)


def _forwarding() -> Finding:
    why = "containers on a bridge reach other machines through it"
    if _read("/proc/sys/net/ipv4/ip_forward").strip() == "1":
        return Finding("ip_forward", "ok", "on", why)
    remedy = "sysctl -w net.ipv4.ip_forward=1 (the daemon does it where it may)"
    return Finding("ip_forward", "warn", "off", why, remedy)


def _nftables() -> Finding:
    why = "published ports and addresses of containers are nftables rules"
    return _library("libnftables", "libnftables.so.1", "libnftables1", why)


def _library(name: str, file: str, package: str, why: str) -> Finding:
    try:
        import ctypes

        ctypes.CDLL(file)
    except OSError:
        return Finding(name, "missing", f"{file} is not installed", why, f"apt-get install {package}")
    return Finding(name, "ok", file, why)


def _kvm() -> Finding:
    why = "with it virtual machines run at the processor's speed; without it they are emulated"
    if not os.path.exists("/dev/kvm"):
        remedy = (
            "enable virtualization in the firmware (or nested virtualization), and load kvm_intel or kvm_amd"
        )
        return Finding("kvm", "warn", "/dev/kvm is not there", why, remedy)
    try:
        _create_machine("/dev/kvm")
    except PermissionError:
        return Finding("kvm", "warn", "/dev/kvm may not be opened", why, "join the group kvm, or run as root")
    except OSError as error:
        return Finding(
            "kvm", "warn", f"/dev/kvm makes no machine: {error.strerror}", why, "see the kernel's log"
        )
    return Finding("kvm", "ok", "/dev/kvm makes machines", why)


def _create_machine(path: str) -> None:
    """Make and drop an empty machine, KVM_CREATE_VM in linux/kvm.h. Raises OSError."""
    import fcntl

    kvm = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.close(fcntl.ioctl(kvm, 0xAE01, 0))
    finally:
        os.close(kvm)


def _disk(data_root: str) -> Finding:
    place = os.path.abspath(data_root)
    while not os.path.exists(place):
        place = os.path.dirname(place)
    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    why = f"images, containers and volumes are kept under {data_root}"
    found = f"{units.decimal_size(free)} free at {place}"
    if free >= _COMFORTABLE_BYTES:
        return Finding("disk", "ok", found, why)
    return Finding(
        "disk", "warn", found, why, "free some room (seom system prune), or use --data-root elsewhere"
    )


def _open_files() -> Finding:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    why = "the daemon holds a few descriptors a container"
    if hard >= 65536 or hard == resource.RLIM_INFINITY:
        return Finding("open files", "ok", f"limit {hard} (now {soft})", why)
    return Finding(
        "open files", "warn", f"limit {hard} (now {soft})", why, "LimitNOFILE=infinity in its unit file"
    )


def _user_namespaces() -> Finding:
    why = "--userns gives containers' root no rights outside"
    limit = _read("/proc/sys/user/max_user_namespaces").strip()
    if limit and int(limit) > 0:
        return Finding("user namespaces", "ok", f"at most {limit}", why)
    return Finding("user namespaces", "warn", "switched off", why, "sysctl -w user.max_user_namespaces=15000")


def _program(program: str, package: str, why: str) -> Finding:
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path:
        return Finding(program, "ok", path, why)
    return Finding(program, "warn", "not installed", why, f"apt-get install {package}")
