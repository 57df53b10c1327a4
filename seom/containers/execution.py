"""From an order to a running workload.

    Start   cgroup with its limits -> log -> overlay -> pipes -> sandbox.create -> Started, hand over
    Exec    pipes -> sandbox.create in the container's namespaces               -> Started

A container's workload is made as the starter's sibling, so that it is the child of the monitor, which
was there before it; the monitor has touched little memory and stays small.
"""

from __future__ import annotations

import errno
import os
import socket
import time

from seom.containers import messages, sandbox
from seom.containers.limits import cgroup_settings, device_rules
from seom.containers.messages import Adopt, Exec, Failed, Log, Start, Started, StreamOptions, Watch
from seom.containers.monitor import EXIT_NAME, JOURNAL_NAME, listen
from seom.containers.rootfs import mount_overlay
from seom.containers.sandbox import Launch, SandboxError, describe
from seom.linux.cgroup import Cgroup, host_layout
from seom.oci.runtime_spec import RuntimeSpec, User

MOUNTPOINT_NAME = "rootfs"


class Launched:
    """A program that runs, and the descriptors of its streams by name."""

    def __init__(self, pid: int, pidfd: int, held: dict[str, int]) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.held = held
        self.started_at_ns = time.time_ns()


def start(order: Start, descriptors: list[int], monitor: socket.socket, monitor_pid: int) -> None:
    """Start a container and hand it to the monitor; failures are reported to the daemon.

    monitor is where the monitor, or whoever forks it, waits for Adopt; monitor_pid is 0 when there
    is none yet. All descriptors are closed at the end.
    """
    control = socket.socket(fileno=descriptors.pop(0))
    held: dict[str, int] = {}
    kept: dict[str, int] = {}
    try:
        launched, watch = _start(order, descriptors, held, kept)
    except SandboxError as error:
        send(control, Failed(error.stage, error.errno, error.message), [])
    else:
        held["pidfd"] = launched.pidfd
        names = [name for name in held if name != "pidfd"]
        shared = [launched.pidfd, *(held[name] for name in names)]
        started = Started(launched.pid, launched.started_at_ns, monitor_pid, watch, names)
        send(control, started, shared)
        adopt = Adopt(
            order.id,
            launched.pid,
            launched.started_at_ns,
            watch,
            names,
            list(kept),
            order.attachments,
        )
        messages.send(monitor, adopt, [control.fileno(), *shared, *kept.values(), *descriptors])
    finally:
        control.close()
        for descriptor in (*held.values(), *kept.values(), *descriptors):
            os.close(descriptor)


def send(control: socket.socket, report: messages.Report, descriptors: list[int]) -> None:
    """Tell the daemon, if it is still there."""
    try:
        messages.send(control, report, descriptors)
    except OSError:
        pass  # the daemon has gone; the next one will find the container


def _start(
    order: Start, descriptors: list[int], held: dict[str, int], kept: dict[str, int]
) -> tuple[Launched, Watch]:
    network = descriptors.pop(0) if order.has_network else None
    group = Cgroup(order.cgroup) if order.cgroup else None
    try:
        launched = _launch_container(order, network, group, held, kept)
    except BaseException:
        if group is not None:
            group.kill()
            group.remove()
        raise
    finally:
        if network is not None:
            os.close(network)
    linux = order.spec.linux
    private = linux is not None and any(namespace.type == "pid" for namespace in linux.namespaces)
    return launched, Watch(order.streams, order.log, order.directory, order.cgroup, private)


def _launch_container(
    order: Start,
    network: int | None,
    group: Cgroup | None,
    held: dict[str, int],
    kept: dict[str, int],
) -> Launched:
    """Everything up to the running program; what is opened for the monitor is put into held and kept."""
    process = order.spec.process
    assert process is not None
    stage = "directory"
    try:
        mountpoint = _prepare_directory(order)
        kept["listener"] = listen(order.directory).detach()
        stage = "cgroup"
        if group is not None:
            _make_group(group, order.spec)
        stage = "log"
        held.update(_open_log(order.log))
        stage = "overlay"
        if order.rootfs is not None:
            # Kept: unmounting may have much to write, which must not delay the report of the exit.
            kept["root"] = mount_overlay(order.rootfs.lowers, order.rootfs.upper, order.rootfs.work)
        stage = "stdio"
        stdio, pipes = make_pipes(order.streams, process.user)
        held.update(pipes)
    except OSError as error:
        raise SandboxError(stage, error.errno or 0, describe(error)) from error
    launch = Launch(
        order.id,
        order.spec,
        process,
        overlay=kept.get("root"),
        mountpoint=mountpoint,
        network=network,
        cgroup=group,
        stdio=stdio,
        rows=order.streams.rows,
        columns=order.streams.columns,
        seccomp=order.seccomp,
        init=order.init,
        sibling=True,
    )
    return _launch(launch, held)


def _open_log(log: Log | None) -> dict[str, int]:
    """See that the log can be written, and make the pipe that its journal needs."""
    if log is None:
        return {}
    os.close(os.open(log.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640))
    out, into = os.pipe2(os.O_CLOEXEC)
    return {"staging_out": out, "staging_in": into}


def _prepare_directory(order: Start) -> str:
    """Make the mount point of the root, and forget the last run."""
    os.makedirs(order.directory, 0o710, exist_ok=True)
    for name in (EXIT_NAME, JOURNAL_NAME):
        try:
            os.unlink(f"{order.directory}/{name}")
        except FileNotFoundError:
            pass
    mountpoint = f"{order.directory}/{MOUNTPOINT_NAME}"
    try:
        os.mkdir(mountpoint, 0o700)
    except FileExistsError:
        pass
    return mountpoint


def _make_group(group: Cgroup, spec: RuntimeSpec) -> None:
    group.create()
    resources = spec.linux.resources if spec.linux else None
    if resources is not None:
        group.apply(cgroup_settings(resources, host_layout()))
        group.allow_devices(device_rules(resources))


def make_pipes(options: StreamOptions, user: User) -> tuple[tuple[int, int, int] | None, dict[str, int]]:
    """The workload's ends for 0, 1 and 2, and the monitor's by name; a terminal has none yet."""
    if options.tty:
        return None, {}
    held: dict[str, int] = {}
    if options.open_stdin:
        stdin, held["stdin"] = os.pipe2(os.O_CLOEXEC)
    else:
        stdin = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    held["stdout"], stdout = os.pipe2(os.O_CLOEXEC)
    held["stderr"], stderr = os.pipe2(os.O_CLOEXEC)
    if user.uid:
        # So that the user can open /dev/stdout again.
        for descriptor in (stdout, stderr, *((stdin,) if options.open_stdin else ())):
            os.fchown(descriptor, user.uid, user.gid)
    return (stdin, stdout, stderr), held


def _launch(launch: Launch, held: dict[str, int]) -> Launched:
    try:
        box = sandbox.create(launch)
    finally:
        for descriptor in launch.stdio or ():
            os.close(descriptor)
    try:
        box.wait_started()
    except SandboxError:
        if not launch.sibling:
            os.waitpid(box.pid, 0)
        os.close(box.pidfd)
        if box.terminal is not None:
            os.close(box.terminal)
        raise
    if box.terminal is not None:
        held["terminal"] = box.terminal
    return Launched(box.pid, box.pidfd, held)


def start_exec(order: Exec, container: int) -> Launched:
    """Run a process in a container, given the pidfd of its first one. Raises SandboxError.

    The new process is the caller's child; after a failure nothing is left of it.
    """
    group = Cgroup(order.cgroup) if order.cgroup else None
    try:
        if group is not None and group.frozen():
            # The new process would be frozen, too, and the server would wait for it.
            raise SandboxError("cgroup", errno.EBUSY, "the container is paused")
        stdio, held = make_pipes(order.streams, order.process.user)
    except OSError as error:
        raise SandboxError("stdio", error.errno or 0, describe(error)) from error
    launch = Launch(
        order.id,
        None,
        order.process,
        cgroup=group,
        stdio=stdio,
        rows=order.streams.rows,
        columns=order.streams.columns,
        seccomp=order.seccomp,
        join=container,
        join_pid=order.pid,
    )
    try:
        return _launch(launch, held)
    except SandboxError:
        for descriptor in held.values():
            os.close(descriptor)
        raise
