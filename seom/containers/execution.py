"""From an order to a running workload: what a freshly forked monitor does first.

Start   cgroup with its limits -> overlay -> pipes -> sandbox.create -> Monitor.run
Exec    pipes -> sandbox.create in the container's namespaces         -> Monitor.run
Adopt   (the workload runs already)                                   -> Monitor.run
"""

from __future__ import annotations

import os
import socket

from seom.containers import sandbox
from seom.containers.limits import cgroup_settings, device_rules
from seom.containers.messages import Adopt, Exec, Start, StreamOptions, Watch
from seom.containers.monitor import EXIT_NAME, JOURNAL_NAME, Monitor, Workload, fail, wait_for_orphan
from seom.containers.rootfs import mount_overlay
from seom.containers.sandbox import Launch, SandboxError, describe
from seom.linux.cgroup import Cgroup, host_layout
from seom.oci.runtime_spec import RuntimeSpec, User

MOUNTPOINT_NAME = "rootfs"


def start(order: Start, control: socket.socket, descriptors: list[int]) -> None:
    """Start a container and watch over it to its end; failures are reported on control."""
    network = descriptors.pop(0) if order.has_network else None
    group = Cgroup(order.cgroup) if order.cgroup else None
    try:
        workload = _start(order, network, group)
    except SandboxError as error:
        if group is not None:
            group.remove()
        fail(control, error.stage, error.errno, error.message)
        return
    if network is not None:
        os.close(network)
    kinds = {namespace.type for namespace in order.spec.linux.namespaces} if order.spec.linux else set()
    watch = Watch(order.streams, order.log, order.directory, order.cgroup, "pid" in kinds)
    monitor = Monitor(control, workload, watch)
    for attachment, descriptor in zip(order.attachments, descriptors, strict=False):
        monitor.attach(descriptor, attachment)
    monitor.run()


def _start(order: Start, network: int | None, group: Cgroup | None) -> Workload:
    process_spec = order.spec.process
    assert process_spec is not None
    stage = "directory"
    try:
        mountpoint = _prepare_directory(order)
        stage = "cgroup"
        if group is not None:
            _make_group(group, order.spec)
        stage = "overlay"
        overlay = None
        if order.rootfs is not None:
            overlay = mount_overlay(order.rootfs.lowers, order.rootfs.upper, order.rootfs.work)
        stage = "stdio"
        stdio, held = make_pipes(order.streams, process_spec.user)
    except OSError as error:
        raise SandboxError(stage, error.errno or 0, describe(error)) from error
    launch = Launch(
        order.id,
        order.spec,
        process_spec,
        overlay=overlay,
        mountpoint=mountpoint,
        network=network,
        cgroup=group,
        stdio=stdio,
        rows=order.streams.rows,
        columns=order.streams.columns,
        seccomp=order.seccomp,
        init=order.init,
    )
    return _launch(launch, stdio, held)


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


def _launch(launch: Launch, stdio: tuple[int, int, int] | None, held: dict[str, int]) -> Workload:
    box = sandbox.create(launch)
    for descriptor in stdio or ():
        os.close(descriptor)
    try:
        box.wait_started()
    except SandboxError:
        os.waitpid(box.pid, 0)
        raise
    if box.terminal is not None:
        held["terminal"] = box.terminal
    return Workload(box.pid, box.pidfd, held)


def execute(order: Exec, control: socket.socket, descriptors: list[int]) -> None:
    """Run a process in a container and watch over it; failures are reported on control."""
    container = descriptors.pop(0)
    group = Cgroup(order.cgroup) if order.cgroup else None
    try:
        stdio, held = make_pipes(order.streams, order.process.user)
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
        workload = _launch(launch, stdio, held)
    except SandboxError as error:
        fail(control, error.stage, error.errno, error.message)
        return
    except OSError as error:
        fail(control, "stdio", error.errno or 0, describe(error))
        return
    os.close(container)
    monitor = Monitor(control, workload, Watch(order.streams))
    for attachment, descriptor in zip(order.attachments, descriptors, strict=False):
        monitor.attach(descriptor, attachment)
    monitor.run()


def adopt(order: Adopt, control: socket.socket, descriptors: list[int], told: socket.socket) -> None:
    """Take over a workload whose monitor died; the spawner may tell its wait status on told."""
    pidfd = descriptors.pop(0)
    held = dict(zip(order.held, descriptors, strict=True))
    workload = Workload(order.pid, pidfd, held, order.started_at_ns, lambda: wait_for_orphan(pidfd, told))
    Monitor(control, workload, order.watch).run()
