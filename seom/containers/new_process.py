"""The new process between clone and execve: every step that confines it. See sandbox for the picture."""

from __future__ import annotations

import _socket
import os
import select

from seom.containers import privileges, reaper, rootfs
from seom.containers.cgroup_mounts import own_groups
from seom.containers.device_nodes import make_devices
from seom.containers.executable import execute, find_executable
from seom.containers.launch import FAILED, MAPPED, READY, TERMINAL, Launch, SandboxError, describe
from seom.containers.sysctls import write_sysctls
from seom.containers.targets import open_target
from seom.linux import apparmor, namespaces, process, pty
from seom.linux import mount as mnt
from seom.linux.channel import send_descriptor
from seom.linux.libc import AT_EMPTY_PATH, AT_FDCWD
from seom.linux.signals import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from seom.oci.runtime_spec import Namespace, RuntimeSpec


def setns_path(namespace: Namespace) -> None:
    descriptor = os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.setns(descriptor, namespaces.FLAGS[namespace.type])
    except OSError as error:
        raise OSError(error.errno, f"cannot join the {namespace.type} namespace", namespace.path) from error
    finally:
        os.close(descriptor)


def join_by_path(launch: Launch) -> None:
    for namespace in launch.namespaces():
        if namespace.path and namespace.type != "pid":
            setns_path(namespace)
    if launch.network is not None:
        namespaces.setns(launch.network, namespaces.CLONE_NEWNET)


class NewProcess:
    """The new process, from clone to execve."""

    def __init__(self, launch: Launch, channel: _socket.socket, new_user: bool) -> None:
        self.launch = launch
        self.channel = channel
        self.new_user = new_user
        self.stage = "init"
        self.root = -1
        self.sources: dict[str, int] = {}
        self.groups: dict[str, str] = {}
        self.program = ""

    def open_what_only_the_caller_can(self) -> None:
        """In the caller: the root and the sources of mounts, which another user could not reach."""
        spec = self.launch.spec
        if spec is None or spec.root is None:
            return
        overlay = self.launch.overlay
        self.root = overlay if overlay is not None else rootfs.clone_root(spec.root.path)
        self.sources = rootfs.clone_sources(spec.mounts, self.new_user)

    def close(self) -> None:
        """In the caller: close what was opened for the new process."""
        owned = list(self.sources.values())
        if self.launch.overlay is None:
            owned.append(self.root)
        for descriptor in owned:
            if descriptor >= 0:
                os.close(descriptor)

    def become_the_program(self) -> NoReturn:
        """Take every step; the first that fails is reported and ends the process."""
        steps = self._steps_of_exec() if self.launch.join is not None else self._steps_of_create()
        try:
            if self.launch.exec_fifo is None:
                # Nobody else knows of it yet: without the monitor it must not go on.
                process.prctl(process.PR_SET_PDEATHSIG, SIGKILL)
            for self.stage, step in steps:
                step()
        except SandboxError as error:
            self._report(error.stage, error.errno, error.message)
        except OSError as error:
            self._report(self.stage, error.errno or 0, describe(error))
        except BaseException as error:
            self._report(self.stage, 0, f"{type(error).__name__}: {error}")
        os._exit(1)

    def _steps_of_create(self) -> list[tuple[str, Callable[[], None]]]:
        return [
            ("user namespace", self._await_mappings),
            ("cgroup", self._join_cgroup),
            ("namespaces", self._enter_namespaces),
            ("session", self._start_session),
            ("rootfs", self._attach_root),
            ("mount", self._mount),
            ("devices", self._make_devices),
            ("sysctl", self._write_sysctls),
            ("hostname", self._set_names),
            ("process", self._set_process_attributes),
            ("hook", self._before_pivot),
            ("pivot_root", self._enter_root),
            ("stdio", self._set_stdio),
            ("paths", self._restrict),
            *self._last_steps(),
        ]

    def _steps_of_exec(self) -> list[tuple[str, Callable[[], None]]]:
        return [
            ("cgroup", self._join_cgroup),
            ("process", self._set_process_attributes),
            ("namespaces", self._join_container),
            ("session", self._start_session),
            ("stdio", self._set_stdio),
            *self._last_steps(),
        ]

    def _last_steps(self) -> list[tuple[str, Callable[[], None]]]:
        return [
            ("rlimits", self._set_rlimits),
            ("privileges", self._drop_privileges),
            ("exec", self._find_program),
            ("ready", self._wait_for_start),
            ("seccomp", self._confine_last),
            ("hook", self._before_exec),
            ("exec", self._execute),
        ]

    def _report(self, stage: str, number: int, message: str) -> None:
        self.channel.send(b"\n".join((FAILED, f"{stage}\n{number}\n{message}".encode())))

    # -- namespaces

    def _await_mappings(self) -> None:
        if self.new_user and self.channel.recv(64) != MAPPED:
            os._exit(1)

    def _join_cgroup(self) -> None:
        if self.launch.cgroup is not None and not self.new_user:
            self.launch.cgroup.join_v1()

    def _enter_namespaces(self) -> None:
        self.groups = own_groups()  # in a cgroup namespace they would all be "/"
        if not self.new_user:
            process.prctl(process.PR_SET_DUMPABLE, 0)
            join_by_path(self.launch)
        if self.launch.makes("cgroup"):
            namespaces.unshare(namespaces.CLONE_NEWCGROUP)

    def _join_container(self) -> None:
        process.prctl(process.PR_SET_DUMPABLE, 0)
        assert self.launch.join is not None
        flags = namespaces.foreign(self.launch.join_pid)
        namespaces.setns(self.launch.join, flags)
        if flags & namespaces.CLONE_NEWUSER:
            privileges.become(0, 0, [])

    def _start_session(self) -> None:
        os.setsid()
        try:
            process.join_session_keyring(f"_ses.{self.launch.name}")
        except OSError:
            pass  # a kernel without keyrings, or a host that forbids them

    # -- the file system

    @property
    def _spec(self) -> RuntimeSpec:
        assert self.launch.spec is not None
        return self.launch.spec

    def _attach_root(self) -> None:
        os.umask(0)
        mnt.set_propagation("/", mnt.MS_SLAVE)
        assert self._spec.root is not None
        path = self.launch.mountpoint or self._spec.root.path
        mnt.move_mount(self.root, "", AT_FDCWD, path, mnt.MOVE_MOUNT_F_EMPTY_PATH)
        if self.new_user:
            # Not before: the way to the mount point may be open to the host's root only.
            privileges.become(0, 0, [])

    def _mount(self) -> None:
        rootfs.mount_all(self.root, self._spec.mounts, self.sources, self.groups, self.launch.makes("cgroup"))

    def _make_devices(self) -> None:
        devices = self._spec.linux.devices if self._spec.linux else []
        make_devices(self.root, devices, self._spec.mounts)

    def _write_sysctls(self) -> None:
        if self._spec.linux and self._spec.linux.sysctl:
            kinds = {namespace.type for namespace in self.launch.namespaces()}
            write_sysctls(self._spec.linux.sysctl, kinds)

    def _set_names(self) -> None:
        if self._spec.hostname and self.launch.makes("uts"):
            process.sethostname(self._spec.hostname)
        if self._spec.domainname and self.launch.makes("uts"):
            process.setdomainname(self._spec.domainname)

    def _before_pivot(self) -> None:
        if self.launch.before_pivot is not None:
            self.launch.before_pivot()

    def _before_exec(self) -> None:
        if self.launch.before_exec is not None:
            self.launch.before_exec()

    def _enter_root(self) -> None:
        rootfs.enter(self.root)

    def _restrict(self) -> None:
        assert self._spec.root is not None
        if self._spec.linux:
            rootfs.restrict(self._spec.linux, self._spec.root.readonly)
        cwd = os.path.normpath("/" + self.launch.process.cwd)
        if not os.path.isdir(cwd):
            os.makedirs(cwd, 0o755, exist_ok=True)

    # -- standard streams

    def _set_stdio(self) -> None:
        if self.launch.stdio is not None:
            for number, descriptor in enumerate(self.launch.stdio):
                if number == descriptor:
                    os.set_inheritable(number, True)
                else:
                    os.dup2(descriptor, number)
            return
        master = pty.open_master("/dev/pts/ptmx")
        slave = pty.open_slave(master)
        if self.launch.rows or self.launch.columns:
            pty.set_window_size(slave, self.launch.rows, self.launch.columns)
        os.fchown(slave, self.launch.process.user.uid, -1)
        pty.make_controlling(slave)
        if self.launch.join is None:
            _bind_console(slave)
        for number in range(3):
            os.dup2(slave, number)
        send_descriptor(self.channel, TERMINAL, master)
        os.close(slave)
        os.close(master)

    # -- limits and privileges

    def _set_process_attributes(self) -> None:
        """What is set through the host's /proc, while it can still be seen."""
        wanted = self.launch.process
        if wanted.oom_score_adj is not None:
            with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
                file.write(b"%d" % wanted.oom_score_adj)
        if wanted.apparmor_profile:
            apparmor.set_exec_profile(wanted.apparmor_profile)
        spec = self.launch.spec
        if spec and spec.linux and spec.linux.personality:
            process.personality(process.PERSONALITIES[spec.linux.personality.domain])

    def _set_rlimits(self) -> None:
        privileges.set_rlimits(self.launch.process.rlimits)

    def _drop_privileges(self) -> None:
        # Descriptors of host directories must not be reachable as a working directory.
        kept = range(3, 3 + self.launch.preserved)
        privileges.close_descriptors_except(*kept, self.channel.fileno(), self.launch.exec_fifo)
        privileges.drop(self.launch.process, self.launch.seccomp)

    def _confine_last(self) -> None:
        if self.launch.process.no_new_privileges:
            privileges.install_seccomp(self.launch.seccomp)

    # -- the program

    def _find_program(self) -> None:
        self.program = find_executable(self.launch.process.args, self.launch.process.env)

    def _wait_for_start(self) -> None:
        if self.launch.exec_fifo is None:
            return
        self.channel.send(READY)
        poll = select.poll()
        poll.register(self.launch.exec_fifo, select.POLLIN)
        poll.poll()

    def _execute(self) -> None:
        process.prctl(process.PR_SET_PDEATHSIG, 0)
        if self.launch.init:
            reaper.fork_program(self.channel)
        process.reset_signals()
        execute(self.program, self.launch.process.args, self.launch.process.env)


def _bind_console(slave: int) -> None:
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    target = open_target(root, "/dev/console", directory=False)
    detached = mnt.open_tree(slave, "", mnt.OPEN_TREE_CLONE | AT_EMPTY_PATH)
    mnt.attach(detached, target)
    for descriptor in (root, target, detached):
        os.close(descriptor)
