"""Control groups on v1, v2 and hybrid hosts behind one class.

    v1      one hierarchy per controller: /sys/fs/cgroup/{cpu,memory,pids,...}
    v2      one tree: /sys/fs/cgroup
    hybrid  v1 controllers, and beside them a v2 tree without controllers, which still kills
            and freezes: /sys/fs/cgroup/unified

A group has one path, relative to the root of each hierarchy it exists in. Limits are given as
(file, value) pairs in the kernel's own names, for instance ("pids.max", "100"); seom.containers.limits
makes them from what a user asked for. See cgroups(7), the kernel's admin-guide/cgroup-v1 and cgroup-v2.

Joining. Writing another process's pid to cgroup.procs waits for an RCU grace period (11 ms). So
the child itself writes "0" to each v1 "tasks" file (join), and enters the v2 tree at birth, by
clone3 with CLONE_INTO_CGROUP and the descriptor of open_v2.
"""

from __future__ import annotations

import errno
import os
import select
import time

from seom.linux import cgroup_devices
from seom.linux import signals as signal
from seom.linux.cgroup_files import parse_flat, read_control, read_flat, write_control

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Setting = tuple[str, str]

# Not used for limits or statistics, or replaced by the v2 tree where there is one.
IGNORED = {"perf_event", "net_cls", "net_prio", "rdma", "misc", "debug"}
V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids", "hugetlb")
REMOVAL_TIMEOUT_S = 2.0
EVENT_POLL_S = 0.05
FREEZE_TIMEOUT_S = 5.0


class Layout:
    """Where the hierarchies of this host are mounted."""

    def __init__(self, v1: dict[str, str], v2: str | None, v2_controllers: frozenset[str]) -> None:
        self.v1 = v1
        self.v2 = v2
        self.v2_controllers = v2_controllers
        self._has: dict[str, bool] = {}

    @property
    def unified(self) -> bool:
        """True when limits are set in the v2 tree."""
        return self.v2 is not None and not self.v1

    @property
    def mode(self) -> str:
        """ "v1", "v2" or "hybrid"."""
        if self.v2 is None:
            return "v1"
        return "hybrid" if self.v1 else "v2"

    def has(self, file: str) -> bool:
        """Does this host have a control file of this name in the groups that one creates?"""
        if file not in self._has:
            self._has[file] = self._has_v2(file) if self.unified else self._has_v1(file)
        return self._has[file]

    def _has_v1(self, file: str) -> bool:
        root = self.v1.get(file.split(".")[0])
        return root is not None and os.path.exists(f"{root}/{file}")

    def _has_v2(self, file: str) -> bool:
        """The root itself has no limits: look into a group of somebody else, if there is one."""
        controller = file.split(".")[0]
        if controller not in self.v2_controllers:
            return False
        if controller not in read_control(f"{self.v2}/cgroup.subtree_control", missing="").split():
            return True
        groups = [entry.path for entry in os.scandir(self.v2 or "/") if entry.is_dir()]
        return not groups or any(os.path.exists(f"{group}/{file}") for group in groups)


def parse_layout(mountinfo: str) -> Layout:
    """Find the hierarchies in the text of /proc/PID/mountinfo (see proc(5))."""
    v1: dict[str, str] = {}
    v2 = None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ")[:3]
        target = before.split(" ")[4]
        if kind == "cgroup2":
            v2 = v2 or target
        elif kind == "cgroup":
            known = set(options.split(",")) - {"rw", "ro"}
            for controller in known:
                if "=" not in controller and controller not in IGNORED:
                    v1.setdefault(controller, target)
    if v2 is not None:
        v1.pop("freezer", None)
    return Layout(v1, v2, frozenset())


_found: list[Layout] = []


def host_layout() -> Layout:
    """The layout of this host, looked up once."""
    if not _found:
        with open("/proc/self/mountinfo") as file:
            layout = parse_layout(file.read())
        if layout.v2 is not None:
            layout.v2_controllers = frozenset(read_control(f"{layout.v2}/cgroup.controllers").split())
        _found.append(layout)
    return _found[0]


class Cgroup:
    """One group, in every hierarchy of the host. Paths are relative to the hierarchies' roots."""

    def __init__(self, path: str, layout: Layout | None = None) -> None:
        self.path = path.strip("/")
        self.layout = layout or host_layout()
        self._v1 = {controller: f"{root}/{self.path}" for controller, root in self.layout.v1.items()}
        self._v2 = f"{self.layout.v2}/{self.path}" if self.layout.v2 is not None else None
        if not self.path or ".." in self.path.split("/"):
            raise ValueError(f"cgroup path {path!r} is not below the root")

    @property
    def folders(self) -> list[str]:
        """The folder in each hierarchy."""
        folders = list(dict.fromkeys(self._v1.values()))
        return folders if self._v2 is None else [*folders, self._v2]

    def folder(self, controller: str) -> str:
        """The folder that holds a controller's files."""
        if self.layout.unified:
            assert self._v2 is not None
            return self._v2
        return self._v1[controller]

    def exists(self) -> bool:
        return any(os.path.isdir(folder) for folder in self.folders)

    # -- making and joining

    def create(self) -> None:
        """Create the group and its missing parents. An existing group is used as it is."""
        for controller, folder in self._v1.items():
            if controller == "cpuset":
                _create_cpuset(self.layout.v1["cpuset"], self.path)
            else:
                _make_folder(folder)
        if self._v2 is not None:
            if self.layout.unified:
                self._delegate_controllers()
            _make_folder(self._v2)

    def _delegate_controllers(self) -> None:
        """Turn the controllers on in every parent: a v2 group has only what its parent hands down."""
        wanted = [name for name in V2_CONTROLLERS if name in self.layout.v2_controllers]
        parent = self.layout.v2 or ""
        for part in ["", *self.path.split("/")[:-1]]:
            parent = f"{parent}/{part}" if part else parent
            os.makedirs(parent, exist_ok=True)
            enabled = read_control(f"{parent}/cgroup.subtree_control").split()
            missing = " ".join(f"+{name}" for name in wanted if name not in enabled)
            if missing:
                _enable_controllers(parent, missing)

    def join_v1(self) -> None:
        """Put the calling thread into the v1 groups (a no-op on v2). Costs 0.05 ms each."""
        for folder in dict.fromkeys(self._v1.values()):
            write_control(f"{folder}/tasks", "0")

    def open_v2(self) -> int | None:
        """A descriptor for clone3's CLONE_INTO_CGROUP; None on a host without a v2 tree."""
        return None if self._v2 is None else os.open(self._v2, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def add(self, pid: int) -> None:
        """Move a process here from outside. Slow (RCU): for exec and other paths that are not hot."""
        for folder in self.folders:
            write_control(f"{folder}/cgroup.procs", str(pid))

    # -- limits

    def apply(self, settings: Iterable[Setting]) -> None:
        """Write control files, in order.

        Raises OSError with the file's name: ENOENT when the host lacks the control, EINVAL or ERANGE
        for a value it refuses, EBUSY for a limit below what is used already.
        """
        for file, value in self._in_workable_order(list(settings)):
            write_control(f"{self.folder(file.split('.')[0])}/{file}", value)

    def allow_devices(self, rules: Sequence[cgroup_devices.Rule]) -> None:
        """Set the device rules: a BPF program on v2, writes to devices.allow and devices.deny on v1."""
        if self.layout.unified:
            cgroup_devices.replace(self.folder("devices"), rules)
        elif "devices" in self._v1:
            for rule in rules:
                file = "devices.allow" if rule[0] else "devices.deny"
                write_control(f"{self._v1['devices']}/{file}", cgroup_devices.v1_entry(rule))

    def _in_workable_order(self, settings: list[Setting]) -> list[Setting]:
        """v1 demands memory <= memory+swap at every moment: raise the larger one first."""
        memory, swap = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
        wanted = dict(settings)
        if memory not in wanted or swap not in wanted:
            return settings
        now = int(read_control(f"{self.folder('memory')}/{swap}"))
        raising = int(wanted[swap]) == -1 or int(wanted[swap]) > now
        pair = [(swap, wanted[swap]), (memory, wanted[memory])]
        rest = [(file, value) for file, value in settings if file not in (memory, swap)]
        return [*(pair if raising else reversed(pair)), *rest]

    # -- the processes

    def pids(self) -> list[int]:
        """Every process in the group and in groups that the container made below it."""
        top = self._v2 or next(iter(self._v1.values()))
        found: list[int] = []
        for folder in _tree(top):
            found += [int(pid) for pid in read_control(f"{folder}/cgroup.procs", missing="").split()]
        return found

    def kill(self) -> None:
        """SIGKILL every process, including those being forked now."""
        if self._v2 is not None and os.path.exists(f"{self._v2}/cgroup.kill"):
            write_control(f"{self._v2}/cgroup.kill", "1")
            return
        while pids := self.pids():
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.thaw()
            time.sleep(0.001)

    def freeze(self) -> None:
        """Stop every process; returns when all have stopped (TimeoutError after 5 seconds)."""
        self._set_frozen(True)

    def thaw(self) -> None:
        """Let frozen processes go on."""
        self._set_frozen(False)

    def frozen(self) -> bool:
        """Are all processes stopped by freeze()?"""
        if self._v2 is not None:
            return read_flat(f"{self._v2}/cgroup.events").get("frozen") == 1
        if "freezer" not in self._v1:
            return False
        return read_control(f"{self._v1['freezer']}/freezer.state").strip() == "FROZEN"

    def _set_frozen(self, wanted: bool) -> None:
        if self._v2 is not None:
            write_control(f"{self._v2}/cgroup.freeze", "1" if wanted else "0")
            self._wait_for_event("frozen", int(wanted), FREEZE_TIMEOUT_S)
            return
        if "freezer" not in self._v1:
            if wanted:
                raise OSError(errno.EOPNOTSUPP, "this host has no freezer cgroup")
            return
        deadline = time.monotonic() + FREEZE_TIMEOUT_S
        while True:
            # FREEZING can last for ever when a process forks meanwhile; writing again helps.
            write_control(f"{self._v1['freezer']}/freezer.state", "FROZEN" if wanted else "THAWED")
            if self.frozen() == wanted:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, "the cgroup did not freeze", self.path)
            time.sleep(0.001)

    def _wait_for_event(self, key: str, value: int, timeout_s: float) -> None:
        """Wait until cgroup.events says so; the kernel signals changes by POLLPRI."""
        assert self._v2 is not None
        deadline = time.monotonic() + timeout_s
        fd = os.open(f"{self._v2}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        try:
            poll = select.poll()
            poll.register(fd, select.POLLPRI)
            while (events := parse_flat(os.pread(fd, 4096, 0).decode())).get(key) != value:
                if events.get("populated") == 0:
                    raise OSError(errno.ENODEV, "the last process has left the cgroup", self.path)
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError(errno.ETIMEDOUT, f"the cgroup did not become {key}={value}", self.path)
                # The kernel delays a second signal by up to 10 ms, and drops it when the group goes.
                poll.poll(min(left_s, EVENT_POLL_S) * 1000)
        finally:
            os.close(fd)

    def oom_kills(self) -> int:
        """How many processes here the kernel has killed for want of memory."""
        if self.layout.unified:
            return read_flat(f"{self._v2}/memory.events").get("oom_kill", 0)
        if "memory" not in self._v1:
            return 0
        return read_flat(f"{self._v1['memory']}/memory.oom_control").get("oom_kill", 0)

    # -- the end

    def remove(self) -> None:
        """Remove the group and groups below it; a missing one is fine.

        Dying processes leave a group a moment after they were reaped, so EBUSY is retried for 2 seconds.
        """
        deadline = time.monotonic() + REMOVAL_TIMEOUT_S
        pause_s = 0.0005
        folders = self.folders
        while folders:
            busy = [folder for folder in folders if not _remove_tree(folder)]
            if busy and time.monotonic() > deadline:
                raise OSError(errno.EBUSY, "processes are still in the cgroup", busy[0])
            if busy:
                time.sleep(pause_s)
                pause_s = min(pause_s * 2, 0.05)
            folders = busy


def _enable_controllers(folder: str, controllers: str) -> None:
    """Hand controllers down to the groups in a folder.

    Only the true root may have processes beside them. What looks like the root inside a container is
    an ordinary group, whose processes have to move to one of their own first (EBUSY).
    """
    try:
        write_control(f"{folder}/cgroup.subtree_control", controllers)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        leaf = f"{folder}/init"
        _make_folder(leaf)
        for pid in read_control(f"{folder}/cgroup.procs").split():
            try:
                write_control(f"{leaf}/cgroup.procs", pid)
            except ProcessLookupError:
                pass
        write_control(f"{folder}/cgroup.subtree_control", controllers)


def _create_cpuset(root: str, path: str) -> None:
    """A v1 cpuset is unusable until it has CPUs and memory nodes: take them from its parent.

    With clone_children the kernel does so for every later group in the same parent.
    """
    if _make_folder(f"{root}/{path}") and read_control(f"{root}/{path}/cpuset.cpus").strip():
        return
    folder = root
    for part in path.split("/"):
        parent, folder = folder, f"{folder}/{part}"
        for file in ("cpuset.cpus", "cpuset.mems"):
            if not read_control(f"{folder}/{file}").strip():
                write_control(f"{folder}/{file}", read_control(f"{parent}/{file}").strip())
        write_control(f"{folder}/cgroup.clone_children", "1")


def _make_folder(path: str) -> bool:
    """Make a folder, with its parents where they are missing; False when it was there."""
    try:
        os.mkdir(path)
    except FileExistsError:
        return False
    except FileNotFoundError:
        os.makedirs(path, exist_ok=True)
    return True


def _tree(top: str) -> Iterator[str]:
    """The folder and all below it, parents first."""
    yield top
    try:
        children = [entry.path for entry in os.scandir(top) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return
    for child in children:
        yield from _tree(child)


def _remove_tree(top: str) -> bool:
    """rmdir everything from the leaves up; False when something is busy."""
    try:
        os.rmdir(top)
        return True
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise
    for folder in reversed(list(_tree(top))):
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.ENOTEMPTY):
                return False
            raise
    return True
