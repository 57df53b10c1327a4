"""seom-runtime: the OCI runtime command line, as podman, containerd and people call it.

    seom-runtime [--root DIR] [--log FILE] [--log-format text|json] [--systemd-cgroup] COMMAND ...

Containers are made by the same code as the engine's (seom.containers.sandbox). The whole process
lives a few milliseconds longer than the interpreter's start, so modules that are slow to load
(json, typing, argparse, msgspec) are avoided on the way of every command that starts something.
See the runtime specification, runtime.md, and runc(8).
"""

from __future__ import annotations

import os
import sys

from seom import __version__
from seom.containers.runtime_state import OCI_VERSION, RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

DEFAULT_ROOT = "/run/seom-runtime"

# Options with a value, a repeated value, or none; the first name is what commands ask for.
GLOBAL = {
    "values": ("root", "log", "log-format", "rootless", "criu"),
    "flags": ("debug", "systemd-cgroup", "version v"),
}
STARTING = {
    "values": ("bundle b", "console-socket", "pid-file", "preserve-fds"),
    "flags": ("no-pivot", "no-new-keyring"),
}
COMMANDS: dict[str, dict[str, tuple[str, ...]]] = {
    "create": STARTING,
    "run": {**STARTING, "flags": ("detach d", "keep", "no-subreaper", *STARTING["flags"])},
    "start": {},
    "state": {},
    "kill": {"flags": ("all a",)},
    "delete": {"flags": ("force f",)},
    "exec": {
        "values": (
            *("process p", "pid-file", "console-socket", "preserve-fds", "user u", "cwd", "apparmor"),
            *("process-label", "cgroup"),
        ),
        "lists": ("env e", "cap c", "additional-gids g"),
        "flags": ("detach d", "tty t", "no-new-privs", "ignore-paused"),
    },
    "ps": {"values": ("format f",)},
    "list": {"values": ("format f",), "flags": ("quiet q",)},
    "pause": {},
    "resume": {},
    "update": {
        "values": (
            *("resources r", "memory", "memory-swap", "memory-reservation", "cpu-shares", "cpu-share"),
            *("cpu-quota", "cpu-period", "cpuset-cpus", "cpuset-mems", "pids-limit", "blkio-weight"),
        ),
    },
    "features": {},
    "spec": {"values": ("bundle b",), "flags": ("rootless",)},
}


class Options:
    """Parsed options by long name, and what is left over."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.lists: dict[str, list[str]] = {}
        self.flags: set[str] = set()
        self.rest: list[str] = []

    def id(self) -> str:
        """The container's name, the first argument."""
        if not self.rest:
            raise RuntimeFailure("container ID cannot be empty")
        return self.rest[0]


def parse(arguments: Sequence[str], known: dict[str, tuple[str, ...]], options: Options) -> None:
    """Read options up to the first other argument; the way of Go's flag packages: -x and --x alike."""
    names = {
        alias: (kind, entry.split()[0])
        for kind, entries in known.items()
        for entry in entries
        for alias in entry.split()
    }
    position = 0
    while position < len(arguments) and arguments[position].startswith("-") and arguments[position] != "-":
        argument = arguments[position]
        position += 1
        if argument == "--":
            break
        name, separator, value = argument.lstrip("-").partition("=")
        if name not in names:
            raise RuntimeFailure(f"flag provided but not defined: {argument}")
        kind, name = names[name]
        if kind == "flags":
            if value != "false":
                options.flags.add(name)
            continue
        if not separator:
            if position == len(arguments):
                raise RuntimeFailure(f"flag needs an argument: {argument}")
            value = arguments[position]
            position += 1
        if kind == "lists":
            options.lists.setdefault(name, []).append(value)
        else:
            options.values[name] = value
    options.rest = list(arguments[position:])


def main() -> NoReturn:
    """Run the command line and leave at once: taking the interpreter down in order takes 3 ms."""
    code = 1
    try:
        code = command_line(sys.argv[1:])
        sys.stdout.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
    os._exit(code)


def command_line(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; errors go to standard error and to the log file."""
    shared = Options()
    try:
        parse(arguments, GLOBAL, shared)
        if "version" in shared.flags:
            _print_version()
            return 0
        if "version" in shared.flags:
            print(f"seom-runtime version {__version__}\nspec: {OCI_VERSION}")
            return 0
        if not shared.rest or shared.rest[0] in ("help", "h"):
            print(__doc__)
            return 0 if shared.rest else 1
        command, *rest = shared.rest
        if command not in COMMANDS:
            raise RuntimeFailure(f"no such command: {command}; choose one of {', '.join(COMMANDS)}")
        options = Options()
        parse(rest, COMMANDS[command], options)
        # kill, exec and others take options behind the name as well.
        if command in ("kill", "delete", "ps", "state", "start", "update") and len(options.rest) > 1:
            first, *behind = options.rest
            parse(behind, COMMANDS[command], options)
            options.rest.insert(0, first)
        return _run(command, options, shared)
    except (RuntimeFailure, OSError) as error:
        _report(str(error), shared)
        return 1


def _print_version() -> None:
    from seom import __version__
    from seom.oci.runtime_spec import OCI_VERSION

    print(f"seom-runtime version {__version__}\nspec: {OCI_VERSION}")


def _run(command: str, options: Options, shared: Options) -> int:
    root = os.path.abspath(shared.values.get("root", DEFAULT_ROOT))
    systemd = "systemd-cgroup" in shared.flags
    if command in ("create", "run", "start", "exec"):
        from seom.containers import runtime_start

        return runtime_start.run(command, options, root, systemd)
    from seom.containers import runtime_commands

    return runtime_commands.run(command, options, root)


def _report(message: str, shared: Options) -> None:
    """Say what went wrong on standard error and, in the format asked for, in the log."""
    os.write(2, f"{message}\n".encode())
    path = shared.values.get("log")
    if not path:
        return
    from time import gmtime, strftime

    from seom.containers.record import encode

    moment = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime())
    line = f'time="{moment}" level=error msg={encode(message)}'
    if shared.values.get("log-format") == "json":
        line = encode({"level": "error", "msg": message, "time": moment})
    try:
        with open(path, "a") as file:
            file.write(f"{line}\n")
    except OSError:
        pass


if __name__ == "__main__":
    main()
