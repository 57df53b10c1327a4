"""Namespaces: clone3, unshare, setns and the identity mappings of user namespaces."""

from __future__ import annotations

import ctypes
import os
from ctypes import c_int, c_size_t, c_void_p

from seom.linux.libc import check, function, system_call
from seom.linux.signals import SIGCHLD

CLONE_VM = 0x100
CLONE_VFORK = 0x4000
CLONE_PIDFD = 0x1000
CLONE_PARENT = 0x8000
CLONE_NEWTIME = 0x80
CLONE_NEWNS = 0x20000
CLONE_NEWCGROUP = 0x2000000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 0x200000000

# The names of the runtime specification.
FLAGS = {
    "mount": CLONE_NEWNS,
    "cgroup": CLONE_NEWCGROUP,
    "uts": CLONE_NEWUTS,
    "ipc": CLONE_NEWIPC,
    "user": CLONE_NEWUSER,
    "pid": CLONE_NEWPID,
    "network": CLONE_NEWNET,
    "time": CLONE_NEWTIME,
}


class _CloneArgs(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    ]


_CLONE_ARGS_BYTES = ctypes.sizeof(_CloneArgs)
_clone3 = system_call("clone3", c_void_p, c_size_t, keep_gil=True)
_unshare = function("unshare", c_int)
_setns = function("setns", c_int, c_int)


class Clone3:
    """One prepared clone3(2): calling it returns the pid, 0 in the child, or -1 with errno set.

    With cgroup_fd, a directory of the v2 hierarchy, the child starts in that group. pidfd is
    close-on-exec, and -1 in the child.
    """

    def __init__(self, flags: int, cgroup_fd: int | None, stack: int = 0, stack_bytes: int = 0) -> None:
        self._pidfd = ctypes.c_int(-1)
        self._arguments = _CloneArgs(
            flags=flags | CLONE_PIDFD,
            pidfd=ctypes.addressof(self._pidfd),
            # A sibling sends its parent the signal that the caller would.
            exit_signal=0 if flags & CLONE_PARENT else SIGCHLD,
            stack=stack,
            stack_size=stack_bytes,
        )
        if cgroup_fd is not None:
            self._arguments.flags |= CLONE_INTO_CGROUP
            self._arguments.cgroup = cgroup_fd
        self._address = ctypes.addressof(self._arguments)

    def __call__(self) -> int:
        return _clone3(self._address, _CLONE_ARGS_BYTES)

    @property
    def pidfd(self) -> int:
        """The child's pidfd, in the parent."""
        return self._pidfd.value


def clone3(flags: int, cgroup_fd: int | None = None) -> tuple[int, int]:
    """clone3(2) as a fork: (pid, pidfd) in the parent, (0, -1) in the child.

    Only for a process with one thread: the handlers that fork(2) runs are not run.
    """
    call = Clone3(flags, cgroup_fd)
    pid = check(call(), "clone3")
    return pid, call.pidfd if pid else -1


def unshare(flags: int) -> None:
    """unshare(2)."""
    check(_unshare(flags), "unshare")


def setns(descriptor: int, flags: int) -> None:
    """setns(2): join the namespace of a namespace file, or those in flags of a pidfd's process."""
    check(_setns(descriptor, flags), "setns")


def write_id_map(pid: int, kind: str, mappings: list[tuple[int, int, int]]) -> None:
    """Write /proc/PID/uid_map or gid_map (kind "uid" or "gid"): (inside, outside, size) each.

    See user_namespaces(7).
    """
    lines = "".join(f"{inside} {outside} {size}\n" for inside, outside, size in mappings)
    with open(f"/proc/{pid}/{kind}_map", "wb", buffering=0) as file:
        file.write(lines.encode())


def foreign(pid: int) -> int:
    """The CLONE_NEW flags of those namespaces of a process that the caller is not in.

    Time namespaces and the pid namespace (joined before a fork) are left out.
    """
    flags = 0
    for file, flag in (
        ("mnt", CLONE_NEWNS),
        ("net", CLONE_NEWNET),
        ("ipc", CLONE_NEWIPC),
        ("uts", CLONE_NEWUTS),
        ("cgroup", CLONE_NEWCGROUP),
        ("user", CLONE_NEWUSER),
    ):
        if os.readlink(f"/proc/{pid}/ns/{file}") != os.readlink(f"/proc/self/ns/{file}"):
            flags |= flag
    return flags
