"""The code between clone and execve: one new process is made, confined step by step, and becomes the program.

    caller (monitor, seom-runtime)             new process
    ------------------------------             -----------
    create(launch)
      clone3(namespaces, v2 cgroup) ---------> waits for its user mappings, if it has any
      write uid_map, gid_map --- "mapped" ---> joins v1 cgroups and namespaces given by path
                                               mounts, devices, pivot_root, masked paths
      <--------------- "terminal" + master ---  (with a terminal) allocates it in its own devpts
                                               limits, privileges, seccomp, user
      <--------------------------- "ready" ---  (with exec_fifo) waits until somebody writes to it
    wait_started()                             execve
      <-------------------------- end of file   (the channel is close-on-exec)
      <----------- "failed", stage, errno, text  instead, from whichever step failed

Nothing here imports more than it needs: the process is forked from the spawner, or is the short-lived
seom-runtime, and every module costs time or memory there.
"""

from __future__ import annotations

import _socket
import os

from seom.containers.launch import FAILED, MAPPED, READY, TERMINAL, Launch, SandboxError, describe
from seom.containers.new_process import NewProcess, join_by_path, setns_path
from seom.linux import namespaces, vfork
from seom.linux.channel import channel_pair, receive

__all__ = ["Launch", "Sandbox", "SandboxError", "create", "describe"]


class Sandbox:
    """A process on its way to the program. The caller owns pidfd, and terminal once it has come."""

    def __init__(self, pid: int, pidfd: int, channel: _socket.socket) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.terminal: int | None = None
        self._channel = channel

    def wait_ready(self) -> None:
        """Wait until everything is prepared and the process waits for its exec_fifo.

        Raises SandboxError; the process has then ended, or is about to.
        """
        if not self._receive_until(READY):
            raise SandboxError("init", 0, "the container's first process ended while it was being prepared")

    def wait_started(self) -> None:
        """Wait until the program has replaced the process. Raises SandboxError."""
        try:
            self._receive_until(b"")
        finally:
            self._channel.close()

    def _receive_until(self, wanted: bytes) -> bool:
        while True:
            data, descriptor = receive(self._channel)
            kind, _, rest = data.partition(b"\n")
            if kind == TERMINAL:
                self.terminal = descriptor
            elif kind == FAILED:
                stage, number, message = rest.decode(errors="replace").split("\n", 2)
                raise SandboxError(stage, int(number), message)
            if kind == wanted:
                return True
            if not kind:
                return False


def create(launch: Launch) -> Sandbox:
    """Clone the process that becomes launch's program, with the namespaces its specification asks for.

    Only for a process with a single thread. Raises SandboxError when the clone itself fails; what
    goes wrong later is raised by the Sandbox's wait functions.
    """
    ours, theirs = channel_pair()
    try:
        flags = _clone_flags(launch)
        new_user = bool(flags & namespaces.CLONE_NEWUSER)
        if new_user:
            join_by_path(launch)
        child = NewProcess(launch, theirs, new_user)
        child.open_what_only_the_caller_can()
        group = launch.cgroup.open_v2() if launch.cgroup else None
        if launch.sibling:
            flags |= namespaces.CLONE_PARENT
        if _may_borrow_memory(launch, new_user):
            pid, pidfd = vfork.vfork3(flags, group, child.become_the_program)
        else:
            pid, pidfd = namespaces.clone3(flags, group)
            if pid == 0:
                child.become_the_program()
        child.close()
        if group is not None:
            os.close(group)
        if new_user:
            _map_users(launch, pid, ours)
    except OSError as error:
        ours.close()
        raise SandboxError("namespaces", error.errno or 0, describe(error)) from error
    finally:
        theirs.close()
        _leave_joined_pid_namespace(launch)
    return Sandbox(pid, pidfd, ours)


def _may_borrow_memory(launch: Launch, new_user: bool) -> bool:
    """Whether the caller need do nothing, and the process stays Python, only until it executes."""
    return vfork.SUPPORTED and not (new_user or launch.init or launch.exec_fifo is not None)


def _clone_flags(launch: Launch) -> int:
    if launch.join is not None:
        namespaces.setns(launch.join, namespaces.CLONE_NEWPID)
        return 0
    flags = 0
    for namespace in launch.namespaces():
        if not namespace.path:
            flags |= namespaces.FLAGS[namespace.type]
        elif namespace.type == "pid":
            setns_path(namespace)
    # A cgroup namespace is made after joining: its root is where its maker is at that moment.
    flags &= ~(namespaces.CLONE_NEWCGROUP | namespaces.CLONE_NEWTIME)
    if launch.network is not None:
        flags &= ~namespaces.CLONE_NEWNET
    return flags


def _leave_joined_pid_namespace(launch: Launch) -> None:
    """The caller's next children are to be in its own pid namespace again, see setns(2)."""
    if launch.join is None and not any(one.type == "pid" and one.path for one in launch.namespaces()):
        return
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.setns(own, namespaces.CLONE_NEWPID)
    finally:
        os.close(own)


def _map_users(launch: Launch, pid: int, channel: _socket.socket) -> None:
    assert launch.spec is not None and launch.spec.linux is not None
    linux = launch.spec.linux
    for kind, mappings in (("uid", linux.uid_mappings), ("gid", linux.gid_mappings)):
        lines = [(one.container_id, one.host_id, one.size) for one in mappings]
        namespaces.write_id_map(pid, kind, lines)
    if launch.cgroup is not None:
        launch.cgroup.add(pid)  # it may not join by itself any more
    channel.send(MAPPED)
