"""RUN: a command in a throw-away container on top of a stage's layers.

The container is made of the engine's own parts (launcher, runtime, networks) but has no row: no list
shows it, and after a crash the sweep of containers without a row removes what is left of it.
"""

from __future__ import annotations

import asyncio
import codecs
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from seom.build.options import BuildOptions
from seom.build.threads import run_to_end
from seom.containers.changes import unused_mount_points
from seom.containers.config import Config, EndpointConfig, HostConfig, LogConfig, Ulimit
from seom.containers.runtime import Attachment, Workload
from seom.containers.spec import check_host_config
from seom.engine.container import Container, Definition, State, now_ns
from seom.engine.definition import fill_host_defaults
from seom.engine.engine import Engine
from seom.engine.launch import LaunchFailure
from seom.engine.mounts import MountPoint
from seom.engine.names import new_id
from seom.errors import InvalidParameter
from seom.oci.image_config import ExecutionConfig
from seom.storage.adoption import adopt_upper, open_real_directory
from seom.storage.layers import Layer
from seom.storage.leases import Lease

_READ_BYTES = 65536
_KILL_TIMEOUT_S = 10.0
LARGEST_OUTPUT_BYTES = 16 << 20
"""Of one command; what comes after is not shown."""


class CommandFailed(InvalidParameter):
    """A RUN ended with another exit code than 0, or could not be started."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code


@dataclass(frozen=True, slots=True)
class Command:
    """What to run, and how: text is the command as error messages show it."""

    arguments: Sequence[str]
    text: str
    config: ExecutionConfig
    variables: Mapping[str, str]
    """Build arguments: environment for this command only."""
    network: str = ""
    privileged: bool = False
    mounts: Sequence[MountPoint] = ()
    stubs: Sequence[str] = field(default=())
    """Paths made only to mount something there, to be removed again when nobody used them."""


class CommandRunner:
    """Runs commands for one build."""

    def __init__(self, engine: Engine, options: BuildOptions) -> None:
        self._engine = engine
        self._options = options
        self._launcher = engine.containers.launcher

    async def run(
        self,
        command: Command,
        layers: Sequence[Layer],
        lease: Lease,
        tell: Callable[[str], None],
        begun: Callable[[str], None],
        latest_mtime: int | None,
    ) -> Layer | None:
        """Run it and make a layer of what it changed; None when it changed nothing.

        tell gets its output in whole lines, begun the container's id.
        Raises CommandFailed in Docker's words.
        """
        container = self._container(command, layers)
        async with self._directories(container):
            begun(container.short_id)
            try:
                code = await self._execute(container, tell)
            except BaseException:
                await asyncio.shield(self._launcher.release(container))
                raise
            async with asyncio.TaskGroup() as group:
                group.create_task(self._launcher.release(container))
                if code == 0:
                    packed = group.create_task(self._pack(container, command, lease, latest_mtime))
        if code:
            raise CommandFailed(f"The command '{command.text}' returned a non-zero code: {code}", code)
        return packed.result()

    async def _pack(
        self, container: Container, command: Command, lease: Lease, latest_mtime: int | None
    ) -> Layer | None:
        lowers = self._engine.images.layer_paths_of(container.definition.diff_ids)
        upper = container.directory / "upper"

        def adopt() -> Layer | None:
            skip = {*unused_mount_points(lowers, str(upper)), *_stubs(command.stubs, upper)}
            return adopt_upper(self._engine.images.layers, upper, lease, skip, latest_mtime)

        return await run_to_end(adopt)

    def _container(self, command: Command, layers: Sequence[Layer]) -> Container:
        config = msgspec.convert(msgspec.to_builtins(command.config), Config)
        config.entrypoint, config.cmd = None, list(command.arguments)
        config.hostname, config.domainname = "", ""
        config.healthcheck, config.volumes, config.exposed_ports = None, None, None
        names = {entry.partition("=")[0] for entry in config.env or []}
        config.env = [
            *(config.env or []),
            *(f"{name}={value}" for name, value in command.variables.items() if name not in names),
        ]
        host = self._host(command)
        endpoints: dict[str, EndpointConfig | None] = {}
        check_host_config(config, host)
        self._engine.networks.check_request(config, host, endpoints)
        definition = Definition(
            config=config,
            host=host,
            endpoints={**endpoints},
            image_id="",
            diff_ids=[layer.diff_id for layer in layers],
            path=command.arguments[0],
            args=list(command.arguments[1:]),
            mounts=list(command.mounts),
        )
        id = new_id()
        config.hostname = config.hostname or ("" if host.network_mode == "host" else "build")
        return Container(
            id,
            f"build-{id[:12]}",
            now_ns(),
            definition,
            State(),
            self._launcher.data_root,
            self._launcher.run_dir,
        )

    def _host(self, command: Command) -> HostConfig:
        options = self._options
        host = HostConfig(
            network_mode=command.network or options.network_mode,
            log_config=LogConfig(type="none"),
            shm_size=options.shm_bytes,
            memory=options.memory_bytes,
            memory_swap=options.memory_swap_bytes,
            cpu_shares=options.cpu_shares,
            cpu_period=options.cpu_period_us,
            cpu_quota=options.cpu_quota_us,
            cpuset_cpus=options.cpuset_cpus,
            cpuset_mems=options.cpuset_mems,
            cgroup_parent=options.cgroup_parent,
            extra_hosts=list(options.extra_hosts) or None,
            privileged=command.privileged,
            ulimits=msgspec.json.decode(options.ulimits, type=list[Ulimit]) if options.ulimits else None,
        )
        fill_host_defaults(host)
        return host

    @asynccontextmanager
    async def _directories(self, container: Container) -> AsyncIterator[None]:
        await asyncio.to_thread(self._launcher.prepare_directories, container)
        try:
            yield
        finally:
            await asyncio.shield(asyncio.to_thread(self._launcher.remove_directories, container))

    async def _execute(self, container: Container, tell: Callable[[str], None]) -> int:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        attachment = Attachment(
            fd=theirs.detach(), stdin=False, stdout=True, stderr=True, detach_keys=b"", framed=False
        )
        with ours:
            try:
                workload = await self._launcher.launch(container, [attachment])
            except LaunchFailure as failure:
                raise CommandFailed(str(failure), failure.exit_code) from failure
            try:
                container.state.pid = workload.pid
                await _pass_lines(ours, tell)
                return (await workload.wait()).code
            except BaseException:
                await asyncio.shield(_kill(workload))
                raise


async def _kill(workload: Workload) -> None:
    try:
        workload.signal(9)
        async with asyncio.timeout(_KILL_TIMEOUT_S):
            await workload.wait()
    except (ProcessLookupError, TimeoutError):
        return


async def _pass_lines(sock: socket.socket, tell: Callable[[str], None]) -> None:
    """Output as it comes, cut at line ends as far as there are any; too much of it is dropped.

    A command must be able to write on, however slowly the client reads what waits for it here.
    """
    loop = asyncio.get_running_loop()
    tell = _Clipped(tell)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    line = ""
    while data := await loop.sock_recv(sock, _READ_BYTES):
        text = line + decoder.decode(data)
        whole, newline, line = text.rpartition("\n")
        if newline:
            for piece in whole.split("\n"):
                tell(piece + "\n")
        if len(line) > _READ_BYTES:
            tell(line)
            line = ""
    line += decoder.decode(b"", final=True)
    if line:
        tell(line)


class _Clipped:
    """Passes text on up to LARGEST_OUTPUT_BYTES, then says so and passes nothing."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._left = LARGEST_OUTPUT_BYTES

    def __call__(self, text: str) -> None:
        if self._left > 0:
            self._tell(text)
            self._left -= len(text)
            if self._left <= 0:
                self._tell(f"[output clipped, log limit {LARGEST_OUTPUT_BYTES >> 20}MiB reached]\n")


def _stubs(paths: Sequence[str], upper: Path) -> set[bytes]:
    """The mount points that are still as they were made: empty."""
    found: set[bytes] = set()
    for path in sorted(paths, key=len, reverse=True):
        inside = os.fsencode(path.strip("/"))
        names = _entries(upper, inside)
        if names is not None and all(inside + b"/" + name in found for name in names):
            found.add(inside)
    return found


def _entries(upper: Path, path: bytes) -> list[bytes] | None:
    """What a directory holds, nothing for an empty file; None for anything else."""
    directory, name = os.path.split(path)
    try:
        parent = open_real_directory(upper, directory)
    except OSError:
        return None
    try:
        status = os.lstat(name, dir_fd=parent)
        if stat.S_ISREG(status.st_mode) and not status.st_size:
            return []
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except OSError:
        return None
    finally:
        os.close(parent)
    try:
        return [os.fsencode(each) for each in os.listdir(inner)]
    finally:
        os.close(inner)


def missing_below(lowers_root: int, path: str, exists: Callable[[int, str], bool]) -> list[str]:
    """A path and those of its parents that a root does not have."""
    found = []
    while path not in ("", "/") and not exists(lowers_root, path):
        found.append(path)
        path = os.path.dirname(path)
    return found
