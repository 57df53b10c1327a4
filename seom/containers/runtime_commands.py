"""The commands of seom-runtime for containers that exist, and those that need none."""

from __future__ import annotations

import os
import sys

from seom.containers.hooks import HookFailure, run_hooks
from seom.containers.record import Record, decode, encode
from seom.containers.runtime_state import CREATED, PAUSED, RUNNING, STOPPED, RuntimeFailure, State
from seom.linux.signals import SIGKILL, pidfd_send_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from seom.containers.oci_runtime import Options


def run(command: str, options: Options, root: str) -> int:
    """Carry out one of the commands; returns the exit code."""
    if command in ("features", "spec", "list"):
        return {"features": _features, "spec": _spec, "list": _list}[command](options, root)
    state = State(root, options.id())
    if command == "delete":
        delete(state, "force" in options.flags)
        return 0
    state.load()
    actions = {"state": _state, "kill": _kill, "ps": _ps, "pause": _pause, "resume": _resume}
    return (actions | {"update": _update})[command](state, options)


def delete(state: State, force: bool) -> None:
    """Remove a container that has ended, or was never started; with force, end it first."""
    try:
        state.load()
    except RuntimeFailure:
        if force:
            state.forget()
            return
        raise
    status = state.status()
    if status in (RUNNING, PAUSED) and not force:
        raise RuntimeFailure(f"cannot delete container {state.id} that is not stopped: {status}")
    hooks = state.config().hooks
    state.cgroup.kill()
    state.cgroup.remove()
    document = {**state.document(), "status": STOPPED, "pid": 0}
    state.forget()
    if hooks and hooks.poststop:
        try:
            run_hooks("poststop", hooks.poststop, encode(document))
        except HookFailure as error:
            os.write(2, f"warning: {error}\n".encode())


def _state(state: State, options: Options) -> int:
    print(encode(state.document()))
    return 0


def signal_number(text: str) -> int:
    """9, KILL, SIGKILL, kill; also RTMIN+n."""
    import signal  # with the names

    if text.isdecimal() and 0 < int(text) < signal.NSIG:
        return int(text)
    name = text.upper().removeprefix("SIG")
    if name.startswith("RTMIN") and (name[5:].lstrip("+") or "0").isdecimal():
        return int(signal.SIGRTMIN) + int(name[5:].lstrip("+") or "0")
    try:
        return int(signal.Signals[f"SIG{name}"])
    except KeyError:
        raise RuntimeFailure(f"unknown signal {text!r}") from None


def _kill(state: State, options: Options) -> int:
    number = signal_number(options.rest[1] if len(options.rest) > 1 else "SIGTERM")
    status = state.status()
    if "all" in options.flags:
        for pid in state.cgroup.pids():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
        return 0
    if status == STOPPED:
        raise RuntimeFailure("container not running")
    try:
        descriptor = state.open_pidfd()
        pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        raise RuntimeFailure("container not running") from None
    if status == PAUSED and number == SIGKILL:
        state.cgroup.thaw()
    return 0


def _ps(state: State, options: Options) -> int:
    pids = state.cgroup.pids()
    if options.values.get("format") == "json":
        print(encode(pids))
        return 0
    import subprocess

    arguments = options.rest[1:] or ["-ef"]
    table = subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False)
    if table.returncode:
        raise RuntimeFailure(table.stderr.strip())
    header, *lines = table.stdout.splitlines()
    column = header.split().index("PID")
    print(header)
    for line in lines:
        if int(line.split()[column]) in pids:
            print(line)
    return 0


def _list(options: Options, root: str) -> int:
    names = sorted(os.listdir(root)) if os.path.isdir(root) else []
    states = [State(root, name) for name in names if os.path.exists(f"{root}/{name}/state.json")]
    documents = [state.load().document() for state in states]
    if options.values.get("format") == "json":
        print(encode(documents))
    elif "quiet" in options.flags:
        print("\n".join(document["id"] for document in documents))
    else:
        print(f"{'ID':20} {'PID':>8} {'STATUS':10} {'CREATED':22} BUNDLE")
        for one in documents:
            print(f"{one['id']:20} {one['pid']:>8} {one['status']:10} {one['created']:22} {one['bundle']}")
    return 0


def _pause(state: State, options: Options) -> int:
    if state.status() not in (RUNNING, CREATED):
        raise RuntimeFailure(f"container not running or created: {state.status()}")
    state.cgroup.freeze()
    return 0


def _resume(state: State, options: Options) -> int:
    if state.status() != PAUSED:
        raise RuntimeFailure("container not paused")
    state.cgroup.thaw()
    return 0


def _update(state: State, options: Options) -> int:
    from seom.containers.limits import cgroup_settings

    if state.status() == STOPPED:
        raise RuntimeFailure("container not running")
    group = state.cgroup
    group.apply(cgroup_settings(_resources(options), group.layout))
    return 0


def _resources(options: Options) -> Any:
    """The limits of --resources (a file, or - for standard input), or of the single options."""
    source = options.values.get("resources")
    if source:
        with sys.stdin if source == "-" else open(source) as file:
            try:
                return Record(decode(file.read()))
            except ValueError as error:
                raise RuntimeFailure(f"--resources: {error}") from None
    given = options.values

    def numbers(**names: str) -> dict[str, int]:
        found = {}
        for member, option in names.items():
            if option in given:
                if not given[option].lstrip("-").isdecimal():
                    raise RuntimeFailure(f"invalid value for {option}: {given[option]}")
                found[member] = int(given[option])
        return found

    cpu: dict[str, Any] = numbers(shares="cpu-share", quota="cpu-quota", period="cpu-period")
    cpu |= numbers(shares="cpu-shares")
    cpu |= {name: given[f"cpuset-{name}"] for name in ("cpus", "mems") if f"cpuset-{name}" in given}
    memory = numbers(limit="memory", swap="memory-swap", reservation="memory-reservation")
    resources: dict[str, Any] = {"cpu": cpu, "memory": memory, "blockIO": numbers(weight="blkio-weight")}
    if "pids-limit" in given:
        resources["pids"] = numbers(limit="pids-limit")
    return Record(resources)


def _features(options: Options, root: str) -> int:
    from seom.containers.runtime_features import features

    print(encode(features()))
    return 0


def _spec(options: Options, root: str) -> int:
    from seom.containers.runtime_features import example_spec

    path = os.path.join(options.values.get("bundle", "."), "config.json")
    if os.path.exists(path):
        raise RuntimeFailure(f"File {path} exists. Remove it first")
    import json

    with open(path, "w") as file:
        json.dump(example_spec(), file, indent=4)
        file.write("\n")
    return 0
