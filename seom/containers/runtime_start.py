"""The commands of seom-runtime that start something: create, run, start, exec."""

from __future__ import annotations

import os

from seom.containers import sandbox
from seom.containers.bundle import Streams, create, filter_of
from seom.containers.hooks import HookFailure, run_hooks
from seom.containers.record import Record, decode, encode
from seom.containers.runtime_state import CREATED, PAUSED, RUNNING, STOPPED, RuntimeFailure, State
from seom.linux import process
from seom.linux import signals as signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from seom.containers.oci_runtime import Options
    from seom.containers.sandbox import Sandbox

NOT_FORWARDED = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH}
NOT_FORWARDED |= {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT}


def run(command: str, options: Options, root: str, systemd: bool) -> int:
    """Carry out one of the commands; returns the exit code."""
    state = State(root, options.id())
    try:
        if command == "create":
            return _create(state, options, systemd)
        if command == "run":
            return _run(state, options, systemd)
        if command == "start":
            return _start(state.load())
        return _exec(state.load(), options)
    except sandbox.SandboxError as error:
        raise RuntimeFailure(f"unable to start container process: {_words(error)}") from error
    except HookFailure as error:
        raise RuntimeFailure(str(error)) from error


def _words(error: sandbox.SandboxError) -> str:
    return error.message if error.stage == "exec" else f"{error.stage}: {error.message}"


def _create(state: State, options: Options, systemd: bool) -> int:
    _created(state, options, systemd)
    return 0


def _created(state: State, options: Options, systemd: bool) -> Sandbox:
    """Create, hand the terminal to the console socket, write the pid file."""
    streams = Streams(options.values.get("console-socket", ""), _preserved(options))
    created = create(state, options.values.get("bundle", "."), streams, systemd)
    try:
        if created.terminal is not None and (command_detached(options) or streams.console_socket):
            _hand_over(created.terminal, streams.console_socket)
        _write_pid(options, created.pid)
    except BaseException:
        from seom.containers.runtime_commands import delete

        delete(state, force=True)
        raise
    return created


def command_detached(options: Options) -> bool:
    """Will nobody here stay to serve a terminal? (create has no --detach: it always leaves)"""
    return "detach" in options.flags


def _hand_over(master: int, console_socket: str) -> None:
    if not console_socket:
        raise RuntimeFailure("cannot allocate tty if runtime will detach without setting console socket")
    from seom.containers.console import send_terminal

    send_terminal(console_socket, master)


def _run(state: State, options: Options, systemd: bool) -> int:
    from seom.containers.runtime_commands import delete

    created = _created(state, options, systemd)
    try:
        if not command_detached(options):
            _hand_on_signals(created)
        _release(state)
        created.wait_started()
        _after_start(state)
        if command_detached(options):
            return 0
        code = _serve(created, options)
    except BaseException:
        delete(state, force=True)
        raise
    if "keep" not in options.flags:
        delete(state, force=True)
    return code


def _start(state: State) -> int:
    status = state.status()
    if status == STOPPED:
        raise RuntimeFailure("cannot start a container that has stopped")
    if status != CREATED:
        raise RuntimeFailure("cannot start an already running container")
    _release(state)
    _after_start(state)
    return 0


def _release(state: State) -> None:
    """Let the waiting process execute its program; the FIFO's presence means "created"."""
    fifo = os.open(state.fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.unlink(state.fifo)
    os.write(fifo, b"1")
    os.close(fifo)


def _after_start(state: State) -> None:
    hooks = state.config().hooks
    if not hooks or not hooks.poststart:
        return
    try:
        run_hooks("poststart", hooks.poststart, encode(state.document()))
    except HookFailure as error:
        os.write(2, f"warning: {error}\n".encode())


def _serve(started: Sandbox, options: Options) -> int:
    """Stay until the program ends: connect the terminal; its exit code."""
    if started.terminal is not None and "console-socket" not in options.values:
        from seom.containers.console import relay_until_exit

        relay_until_exit(started.terminal, started.pidfd)
    return process.exit_code(os.waitpid(started.pid, 0)[1])


def _hand_on_signals(started: Sandbox) -> None:
    """What is sent to this process reaches the program from here on."""

    def forward(number: int, _: object) -> None:
        try:
            signal.pidfd_send_signal(started.pidfd, number)
        except ProcessLookupError:
            pass

    for number in signal.valid_signals() - NOT_FORWARDED:
        try:
            signal.signal(number, forward)
        except OSError:
            pass


# -- exec


def _exec(state: State, options: Options) -> int:
    status = state.status()
    if status == PAUSED and "ignore-paused" not in options.flags:
        raise RuntimeFailure("cannot exec in a paused container (use --ignore-paused to override)")
    if status not in (RUNNING, PAUSED, CREATED):
        raise RuntimeFailure("cannot exec in a stopped container")
    spec = state.config()
    wanted = _process(spec, options)
    size = wanted.console_size
    launch = sandbox.Launch(
        f"{state.id}",
        None,
        wanted,
        cgroup=state.cgroup,
        stdio=None if wanted.terminal else (0, 1, 2),
        rows=size.height if size else 0,
        columns=size.width if size else 0,
        seccomp=filter_of(state, spec),
        join=state.open_pidfd(),
        join_pid=state.pid,
        preserved=_preserved(options),
    )
    started = sandbox.create(launch)
    detached = command_detached(options)
    if not detached:
        _hand_on_signals(started)
    started.wait_started()
    if started.terminal is not None and (detached or "console-socket" in options.values):
        _hand_over(started.terminal, options.values.get("console-socket", ""))
    _write_pid(options, started.pid)
    return 0 if detached else _serve(started, options)


def _process(spec: Any, options: Options) -> Any:
    """The process to run: from --process, or the container's own with other arguments."""
    if "process" in options.values:
        with open(options.values["process"], "rb") as file:
            return Record(decode(file.read()))
    arguments = options.rest[1:]
    if not arguments:
        raise RuntimeFailure("process args cannot be empty")
    members: dict[str, Any] = dict(spec.process.members)
    members |= {"args": arguments, "terminal": "tty" in options.flags}
    members["env"] = [*members.get("env", []), *options.lists.get("env", [])]
    if "cwd" in options.values:
        members["cwd"] = options.values["cwd"]
    if "no-new-privs" in options.flags:
        members["noNewPrivileges"] = True
    if "user" in options.values:
        uid, _, gid = options.values["user"].partition(":")
        members["user"] = {"uid": _number(uid, "user"), "gid": _number(gid or "0", "user")}
    if "additional-gids" in options.lists:
        groups = [_number(text, "additional-gids") for text in options.lists["additional-gids"]]
        members["user"] = {**members.get("user", {}), "additionalGids": groups}
    if "cap" in options.lists:
        sets = dict(members.get("capabilities") or {})
        for name in ("bounding", "effective", "permitted"):
            sets[name] = [*sets.get(name, []), *options.lists["cap"]]
        members["capabilities"] = sets
    return Record(members)


def _preserved(options: Options) -> int:
    return _number(options.values.get("preserve-fds", "0"), "preserve-fds")


def _number(text: str, option: str) -> int:
    if not text.isdecimal():
        raise RuntimeFailure(f"invalid value {text!r} for --{option}: a number is needed")
    return int(text)


def _write_pid(options: Options, pid: int) -> None:
    """Write the pid file in one step, as those who wait for it expect."""
    path = options.values.get("pid-file")
    if path:
        temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}")
        with open(temporary, "w") as file:
            file.write(str(pid))
        os.rename(temporary, path)
