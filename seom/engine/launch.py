"""Starting one container: everything between a definition and a running workload, and giving it back.

    mounts    volumes mounted, bind sources made
    network   namespace, endpoints, published ports
    files     hostname, hosts, resolv.conf
    spec      the OCI runtime specification
    runtime   the spawner forks a monitor; the workload runs

Whatever was made is undone when a later step fails.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from seom.containers.config import HostConfig
from seom.containers.limits import cgroup_settings
from seom.containers.runtime import (
    Attachment,
    LogTarget,
    Rootfs,
    Runtime,
    StartFailure,
    StartRequest,
    Stdio,
    Workload,
)
from seom.containers.spec import JoinedNamespaces, SpecPaths, build_spec, resources_of
from seom.containers.user import resolve_user
from seom.engine import mounts
from seom.engine.container import Container
from seom.engine.definition import parse_size
from seom.engine.events import EventBus
from seom.engine.images import Images
from seom.engine.network_records import Sandbox
from seom.engine.networks import Networks
from seom.engine.volumes import Volumes
from seom.errors import Conflict, InvalidParameter, SeomError, SystemFailure
from seom.linux.cgroup import Cgroup, host_layout

NOT_FOUND_EXIT = 127
NOT_EXECUTABLE_EXIT = 126
START_FAILURE_EXIT = 128
# Docker reads exit codes from the texts of these errors, whatever failed with them.
EXIT_CODES = {
    errno.ENOENT: NOT_FOUND_EXIT,
    errno.ENOTDIR: NOT_FOUND_EXIT,
    errno.EACCES: NOT_EXECUTABLE_EXIT,
    errno.EISDIR: NOT_EXECUTABLE_EXIT,
}
CONTAINER_MODE = "container:"


class LaunchFailure(InvalidParameter):
    """The command of a container or exec could not be started; carries the exit code users expect."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class HostFailure(LaunchFailure, SystemFailure):
    """As LaunchFailure, but the host is at fault and not the request."""


def start_failure(failure: StartFailure, verb: str = "create") -> LaunchFailure:
    """Docker's words for a command that cannot be run; its clients read the exit code from them."""
    prefix = (
        "OCI runtime exec failed: exec failed: unable to start container process: "
        if verb == "exec"
        else "failed to create task for container: failed to create shim task: OCI runtime create failed: "
        "runc create failed: unable to start container process: "
    )
    message = failure.message[:1].lower() + failure.message[1:]
    if failure.stage == "exec":
        code = NOT_FOUND_EXIT if failure.errno in (errno.ENOENT, errno.ENOTDIR) else NOT_EXECUTABLE_EXIT
        return LaunchFailure(f"{prefix}{message}", code)
    code = EXIT_CODES.get(failure.errno, START_FAILURE_EXIT)
    if message.startswith("chdir to cwd"):
        return LaunchFailure(f"{prefix}{message}", code)
    return HostFailure(f"{prefix}{failure.stage}: {message}", code)


class Launcher:
    """Knows how to start a container and what to give back; holds nothing about any of them."""

    def __init__(
        self,
        data_root: Path,
        run_dir: Path,
        cgroup_parent: str,
        runtime: Runtime,
        images: Images,
        networks: Networks,
        volumes: Volumes,
        events: EventBus,
        get: Callable[[str], Container],
    ) -> None:
        """get finds a container by name or id and raises NotFound."""
        self.data_root = data_root
        self.run_dir = run_dir
        self._cgroup_parent = cgroup_parent
        self._runtime = runtime
        self._images = images
        self._networks = networks
        self._volumes = volumes
        self._events = events
        self._get = get

    def cgroup_path(self, container: Container) -> str:
        """Relative to the hierarchies' roots; --cgroup-parent puts it elsewhere."""
        return f"{container.host.cgroup_parent.strip('/') or self._cgroup_parent}/{container.id}"

    def cgroup(self, container: Container) -> Cgroup:
        """The control group of a container's processes."""
        return Cgroup(self.cgroup_path(container))

    # Directories

    def prepare_directories(self, container: Container) -> None:
        """The writable layer and the container's own files; blocks."""
        container.directory.mkdir(mode=0o710, parents=True)
        (container.directory / "upper").mkdir(mode=0o755)
        (container.directory / "upper" / ".dockerenv").touch(0o755)  # by which programs know a container
        (container.directory / "work").mkdir(mode=0o700)

    def remove_directories(self, container: Container) -> None:
        """Everything on disk that belongs to one container; blocks."""
        shutil.rmtree(container.run_directory, ignore_errors=True)
        shutil.rmtree(container.directory, ignore_errors=True)

    # Start

    async def launch(self, container: Container, attachments: Sequence[Attachment]) -> Workload:
        """Start it. Raises LaunchFailure; the attachments are used up either way."""
        given = False
        async with AsyncExitStack() as undo:
            try:
                undo.push_async_callback(self.release, container)
                request, netns_fd = await self._prepare(container)
                given = True
                workload = await self._runtime.start(request, netns_fd, attachments)
            except StartFailure as failure:
                raise start_failure(failure) from failure
            except (SeomError, OSError) as error:
                raise HostFailure(str(error), START_FAILURE_EXIT) from error
            finally:
                if not given:
                    for attachment in attachments:
                        os.close(attachment.fd)
            undo.pop_all()
        self._publish_mounts(container, "mount")
        return workload

    async def _prepare(self, container: Container) -> tuple[StartRequest, int | None]:
        definition, host = container.definition, container.host
        oci_mounts = await mounts.prepare(definition.mounts, container.id, self._volumes)
        joined, shared = self._joined(container)
        sandbox = await self._networks.attach(container.member())
        layers = self._images.layer_paths_of(definition.diff_ids)
        files = await asyncio.to_thread(self._write_files, container, sandbox)
        # Names in the files of the writable layer count before the image's.
        user = await asyncio.to_thread(
            resolve_user,
            container.config.user,
            [str(container.directory / "upper"), *layers],
            host.group_add or (),
        )
        cgroup = self.cgroup_path(container)
        spec = build_spec(
            container.id,
            container.config,
            host,
            replace(files, shm=shared),
            oci_mounts,
            user,
            joined,
            cgroup,
            rootfs_propagation=mounts.rootfs_propagation(definition.mounts),
        )
        request = StartRequest(
            id=container.id,
            directory=container.run_directory,
            spec=spec,
            rootfs=Rootfs(
                lowers=layers,
                upper=str(container.directory / "upper"),
                work=str(container.directory / "work"),
            ),
            cgroup=cgroup,
            stdio=Stdio(
                tty=container.config.tty,
                open_stdin=container.config.open_stdin,
                stdin_once=container.config.stdin_once,
                rows=(host.console_size or [0, 0])[0],
                columns=(host.console_size or [0, 0])[1],
            ),
            log=_log_target(container),
            init=bool(host.init),
        )
        return request, sandbox.netns_fd

    def _joined(self, container: Container) -> tuple[JoinedNamespaces, str]:
        """Namespaces of other containers to join, and whose /dev/shm to share."""
        host = container.host
        pid, ipc, shared = "", "", ""
        if host.pid_mode.startswith(CONTAINER_MODE):
            pid = f"/proc/{self._running_pid(host.pid_mode)}/ns/pid"
        if host.ipc_mode.startswith(CONTAINER_MODE):
            other = self._running_pid(host.ipc_mode)
            ipc, shared = f"/proc/{other}/ns/ipc", f"/proc/{other}/root/dev/shm"
        elif host.ipc_mode == "host":
            shared = "/dev/shm"
        return JoinedNamespaces(pid=pid, ipc=ipc), shared

    def _running_pid(self, mode: str) -> int:
        other = self._get(mode.removeprefix(CONTAINER_MODE))
        if not other.running:
            raise Conflict(
                f"cannot join the namespaces of container {other.name}: it is not running; start it first"
            )
        return other.state.pid

    def _write_files(self, container: Container, sandbox: Sandbox) -> SpecPaths:
        """hostname, hosts and resolv.conf; those of the container whose network is shared."""
        if sandbox.share_with:
            directory = self.data_root / "containers" / sandbox.share_with
        else:
            directory = container.directory
            (directory / "hostname").write_text(f"{container.config.hostname}\n")
            (directory / "hosts").write_text(sandbox.hosts)
            (directory / "resolv.conf").write_text(sandbox.resolv_conf)
        container.run_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return SpecPaths(
            hosts=str(directory / "hosts"),
            hostname=str(directory / "hostname"),
            resolv_conf=str(directory / "resolv.conf"),
        )

    # While it runs, and after

    async def freeze(self, container: Container) -> None:
        """Stop every process; returns when all have stopped."""
        await self._in_cgroup(container, self.cgroup(container).freeze)

    async def thaw(self, container: Container) -> None:
        """Let every process go on."""
        await self._in_cgroup(container, self.cgroup(container).thaw)

    async def _in_cgroup(self, container: Container, work: Callable[[], None]) -> None:
        try:
            await asyncio.to_thread(work)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise
            raise Conflict(f"container {container.id} is not running: it has just ended") from error

    async def apply_limits(self, container: Container, host: HostConfig) -> None:
        """Change the limits of a running container; raises SystemFailure for what the kernel refuses."""
        settings = cgroup_settings(resources_of(host), host_layout())
        try:
            await self._in_cgroup(container, partial(self.cgroup(container).apply, settings))
        except OSError as error:
            raise SystemFailure(
                f"cannot update container {container.id}: {error.strerror}: {error.filename}; a limit below "
                "what is in use now is refused by the kernel"
            ) from error

    async def release(self, container: Container) -> None:
        """Give back what a run held; may be called again."""
        await self._networks.release(container.id)
        await mounts.release(container.definition.mounts, container.id, self._volumes)

    def publish_unmounts(self, container: Container) -> None:
        """Tell that the volumes of a container that has ended are unmounted."""
        self._publish_mounts(container, "unmount")

    def _publish_mounts(self, container: Container, action: str) -> None:
        mounts.publish_mounts(container.definition.mounts, container.id, self._events, action)


def _log_target(container: Container) -> LogTarget | None:
    log = container.host.log_config
    if log is None or log.type == "none":
        return None
    options = log.config or {}
    default_size = "20m" if log.type == "local" else "-1"
    return LogTarget(
        driver=log.type,
        path=str(container.log_path),
        max_size_bytes=parse_size(options.get("max-size", default_size)),
        max_files=int(options.get("max-file", "5" if log.type == "local" else "1")),
        extra=_log_attributes(container, options),
    )


def _log_attributes(container: Container, options: dict[str, str]) -> dict[str, str]:
    """The labels and variables that every log line carries when asked for."""
    labels = container.config.labels or {}
    environment = dict(entry.partition("=")[::2] for entry in container.config.env or [])
    wanted_labels = [name for name in options.get("labels", "").split(",") if name in labels]
    wanted_variables = [name for name in options.get("env", "").split(",") if name in environment]
    return {
        **{name: labels[name] for name in wanted_labels},
        **{name: environment[name] for name in wanted_variables},
    }
