"""A bundle carried out: from config.json to a process that waits to become the program."""

from __future__ import annotations

import os
import select
import time

from seom.containers import sandbox
from seom.containers.hooks import HookFailure, run_hooks
from seom.containers.limits import cgroup_settings, device_rules
from seom.containers.record import Record, decode, encode
from seom.containers.runtime_state import RuntimeFailure, State
from seom.containers.seccomp_cache import cached_program
from seom.linux import process
from seom.linux.cgroup import Cgroup
from seom.linux.seccomp import compile_filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from seom.containers.sandbox import Sandbox
    from seom.oci.runtime_spec import Resources, RuntimeSpec

DEFAULT_CONSOLE = (24, 80)


class Streams:
    """Where a program's input and output go: the caller's descriptors, or a terminal."""

    def __init__(self, console_socket: str = "", preserved: int = 0) -> None:
        self.console_socket = console_socket
        self.preserved = preserved


# Errors that say by themselves what was wrong.
EXPLAINED = (RuntimeFailure, HookFailure, sandbox.SandboxError)


def read_config(bundle: str) -> bytes:
    """The bytes of a bundle's config.json."""
    try:
        with open(f"{bundle}/config.json", "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise RuntimeFailure(f"JSON specification file config.json not found in {bundle}") from None


def decode_config(text: bytes, bundle: str) -> RuntimeSpec:
    """A specification with its paths made absolute. Raises RuntimeFailure for what is no specification."""
    try:
        members = decode(text)
    except ValueError as error:
        raise RuntimeFailure(f"config.json: {error}") from None
    if not isinstance(members, dict) or not isinstance(members.get("root"), dict):
        raise RuntimeFailure("config.json: the root is missing")
    if not str(members.get("ociVersion", "")).startswith("1."):
        raise RuntimeFailure(f"config.json: unsupported ociVersion {members.get('ociVersion')!r}")
    members["root"]["path"] = os.path.join(bundle, members["root"].get("path", ""))
    if not os.path.isdir(members["root"]["path"]):
        raise RuntimeFailure(f"rootfs {members['root']['path']} does not exist")
    spec: RuntimeSpec = view(members)
    return spec


def view(members: dict[str, Any]) -> Any:
    """A Record, to be taken for the structure that it stands for."""
    return Record(members)


def view_members(record: Any) -> dict[str, Any]:
    """The JSON object below a Record."""
    members: dict[str, Any] = record.members
    return members


def create(state: State, bundle: str, streams: Streams, cgroup_driver_is_systemd: bool) -> Sandbox:
    """Make the container of a bundle and leave it waiting; raises RuntimeFailure, leaving nothing behind."""
    bundle = os.path.realpath(bundle)
    text = read_config(bundle)
    spec = decode_config(text, bundle)
    try:
        if not spec.process or not spec.process.args:
            raise RuntimeFailure("config.json: process.args must not be empty")
        wanted_cgroup = spec.linux.cgroups_path if spec.linux else ""
        path = cgroup_path(wanted_cgroup, state.id, cgroup_driver_is_systemd)
    except (AttributeError, TypeError):
        _explain(text)
        raise
    state.claim()
    cgroup = Cgroup(path)
    try:
        state.save_config(text)
        cgroup.create()
        resources: Resources = (spec.linux and spec.linux.resources) or view({})
        cgroup.apply(cgroup_settings(resources, cgroup.layout))
        cgroup.allow_devices(device_rules(resources))
        members = {
            "bundle": bundle,
            "rootfs": spec.root.path if spec.root else "",
            "cgroup": path,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "annotations": spec.annotations,
        }
        return _start_init(state, members, spec, cgroup, streams)
    except BaseException as error:
        cgroup.kill()
        cgroup.remove()
        state.forget()
        _explain(text)
        if isinstance(error, Exception) and not isinstance(error, EXPLAINED):
            raise RuntimeFailure(f"unable to start container process: {_describe(error)}") from error
        raise


def _start_init(
    state: State, members: dict[str, Any], spec: RuntimeSpec, cgroup: Cgroup, streams: Streams
) -> Sandbox:
    assert spec.process is not None
    os.mkfifo(state.fifo, 0o600)
    fifo = os.open(state.fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    size = spec.process.console_size
    terminal = spec.process.terminal
    launch = sandbox.Launch(
        state.id,
        spec,
        spec.process,
        cgroup=cgroup,
        stdio=None if terminal else (0, 1, 2),
        rows=size.height if size else 0,
        columns=size.width if size else 0,
        seccomp=filter_of(state, spec),
        exec_fifo=fifo,
        preserved=streams.preserved,
    )
    hooks = HookPoints(spec)
    hooks.attach(launch)
    created = sandbox.create(launch)
    try:
        members |= {"pid": created.pid, "startTime": process.start_time(created.pid)}
        state.members = members
        hooks.run_before_pivot(state)
        created.wait_ready()
        state.save(members)
    except BaseException:
        try:
            os.kill(created.pid, 9)
            os.waitpid(created.pid, 0)
        except OSError:
            pass
        raise
    finally:
        os.close(fifo)
    return created


class HookPoints:
    """The hooks at the points between clone and execve, where two processes have to take turns.

    runtime                                  container's process
    -------                                  -------------------
    run_before_pivot <------------- "ready" - everything is mounted
      prestart, createRuntime
      - the state, as JSON -----------------> createContainer, pivot_root ...
                                              startContainer, execve
    """

    def __init__(self, spec: RuntimeSpec) -> None:
        self._hooks = spec.hooks
        self._state = ""
        self._ready: tuple[int, int] | None = None
        self._go: tuple[int, int] | None = None

    def attach(self, launch: sandbox.Launch) -> None:
        """Have the new process take part, if there are any hooks."""
        if self._hooks:
            self._ready, self._go = os.pipe(), os.pipe()
            launch.before_pivot = self._in_container
            launch.before_exec = self._before_exec

    def run_before_pivot(self, state: State) -> None:
        """Run the runtime's own hooks once the container's mounts are made."""
        if self._ready is None or self._go is None or self._hooks is None:
            return
        os.close(self._ready[1])
        os.close(self._go[0])
        try:
            select.select([self._ready[0]], [], [])
            if os.read(self._ready[0], 1):
                document = encode({**state.document(), "status": "creating"})
                run_hooks("prestart", self._hooks.prestart, document)
                run_hooks("createRuntime", self._hooks.create_runtime, document)
                os.write(self._go[1], document.encode())
        finally:
            os.close(self._ready[0])
            os.close(self._go[1])

    def _in_container(self) -> None:
        assert self._ready is not None and self._go is not None and self._hooks is not None
        os.close(self._ready[0])
        os.close(self._go[1])
        os.write(self._ready[1], b"1")
        self._state = os.read(self._go[0], 1 << 20).decode()
        if not self._state:
            os._exit(1)
        run_hooks("createContainer", self._hooks.create_container, self._state)

    def _before_exec(self) -> None:
        assert self._hooks is not None
        run_hooks("startContainer", self._hooks.start_container, self._state)


def filter_of(state: State, spec: RuntimeSpec) -> bytes:
    """The compiled seccomp filter of a specification, b"" for none."""
    seccomp = spec.linux.seccomp if spec.linux else None
    if not seccomp:
        return b""

    def build() -> bytes:
        return compile_filter(
            seccomp.default_action,
            seccomp.default_errno_ret,
            seccomp.architectures,
            seccomp.syscalls,
            seccomp.flags,
        )

    profile = encode(view_members(seccomp)).encode()
    return cached_program(profile, f"{os.path.dirname(state.folder)}/.seccomp", build)


def cgroup_path(wanted: str, id: str, systemd: bool) -> str:
    """Where the container's group is, relative to the hierarchies' roots.

    systemd's form "slice:prefix:name" becomes the path systemd would give the scope.
    """
    if systemd and wanted.count(":") == 2:
        slice_name, prefix, name = wanted.split(":")
        unit = f"{prefix}-{name}.scope" if prefix else name
        return f"{_slice_path(slice_name or 'system.slice')}/{unit}"
    return wanted.strip("/") or f"seom-runtime/{id}"


def _slice_path(name: str) -> str:
    """a-b.slice lies in a.slice (see systemd.slice(5))."""
    parts = name.removesuffix(".slice").split("-")
    return "/".join("-".join(parts[: count + 1]) + ".slice" for count in range(len(parts)))


def _explain(text: bytes) -> None:
    """After a failure: was the specification itself wrong? Reading it with its types takes its time."""
    import msgspec

    from seom.oci.runtime_spec import RuntimeSpec

    try:
        msgspec.json.decode(text, type=RuntimeSpec)
    except msgspec.DecodeError as error:
        raise RuntimeFailure(f"config.json: {error}") from None


def _describe(error: Exception) -> str:
    if isinstance(error, OSError):
        return sandbox.describe(error)
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
