"""Commands that do something to containers by name: stop, restart, kill, pause, rm, wait, update ..."""

from __future__ import annotations

from seom.cli import output, units
from seom.cli.commands import Command, Invocation
from seom.cli.container_options import UPDATE_FLAGS
from seom.cli.container_request import limits
from seom.cli.errors import CommandError, DaemonError
from seom.cli.flags import Flag
from seom.cli.request_syntax import parse_restart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SIGNAL = Flag(
    "signal",
    "string",
    "Signal to send to the container",
    short="s",
    complete="TERM KILL HUP INT QUIT USR1 USR2",
)
_TIMEOUT = Flag("timeout", "int", "Seconds to wait before killing the container", short="t")
_TIME = Flag("time", "int", "Seconds to wait before killing the container", hidden=True)


def for_each(names: Sequence[str], action: Callable[[str], object]) -> int:
    """Do it to every name; print those done and complain of the others. Status 1 after any complaint."""
    status = 0
    for name in names:
        try:
            action(name)
            output.line(name)
        except DaemonError as error:
            output.error(error.message)
            status = 1
    return status


def _stopper(verb: str) -> Callable[[Invocation], int]:
    def run(invocation: Invocation) -> int:
        options = invocation.options
        given = {"timeout", "time"} & options.changed
        parameters: dict[str, object] = {"signal": options.text("signal")}
        if given:
            parameters["t"] = str(options.number(given.pop()))
        return for_each(
            invocation.arguments,
            lambda name: invocation.client.post(f"/containers/{name}/{verb}", parameters),
        )

    return run


def _poster(verb: str) -> Callable[[Invocation], int]:
    def run(invocation: Invocation) -> int:
        return for_each(
            invocation.arguments, lambda name: invocation.client.post(f"/containers/{name}/{verb}")
        )

    return run


def _kill(invocation: Invocation) -> int:
    parameters: dict[str, object] = {"signal": invocation.options.text("signal") or "KILL"}
    return for_each(
        invocation.arguments,
        lambda name: invocation.client.post(f"/containers/{name}/kill", parameters),
    )


def _remove(invocation: Invocation) -> int:
    options = invocation.options
    force = options.on("force")
    parameters: dict[str, object] = {
        "v": options.on("volumes"),
        "link": options.on("link"),
        "force": force,
    }
    status = 0
    for name in invocation.arguments:
        try:
            invocation.client.delete(f"/containers/{name.strip('/')}", parameters)
            output.line(name)
        except DaemonError as error:
            output.error(error.message)
            if not (force and error.http_status == 404):
                status = 1
    return status


def _wait(invocation: Invocation) -> int:
    status = 0
    for name in invocation.arguments:
        try:
            result = invocation.client.call("POST", f"/containers/{name}/wait").json()
            output.line(str(result["StatusCode"]))
        except DaemonError as error:
            output.error(error.message)
            status = 1
    return status


def _rename(invocation: Invocation) -> int:
    old, new = (name.strip() for name in invocation.arguments)
    if not old or not new:
        raise CommandError("Error: Neither old nor new names may be empty")
    try:
        invocation.client.post(f"/containers/{old}/rename", {"name": new})
    except DaemonError as error:
        output.error(error.message)
        raise CommandError(f"Error: failed to rename container named {old}") from None
    return 0


def _update(invocation: Invocation) -> int:
    options = invocation.options
    if not options.changed:
        raise CommandError("you must provide one or more flags when using this command")
    request = limits(options)
    if "restart" in options.changed:
        try:
            request["RestartPolicy"] = parse_restart(options.text("restart"))
        except ValueError as error:
            raise CommandError(str(error)) from None

    def update(name: str) -> None:
        answer = invocation.client.call("POST", f"/containers/{name}/update", body=request).json()
        for warning in answer.get("Warnings") or ():
            output.error(f"WARNING: {warning}")

    return for_each(invocation.arguments, update)


def _prune(invocation: Invocation) -> int:
    from seom.cli.filters import encode_filters

    options = invocation.options
    if not options.on("force") and not output.confirm(
        "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?"
    ):
        return 0
    filters = encode_filters(options.each("filter"))
    answer = invocation.client.call("POST", "/containers/prune", {"filters": filters}).json()
    if deleted := answer.get("ContainersDeleted"):
        output.line("Deleted Containers:\n" + "\n".join(deleted) + "\n")
    output.line(f"Total reclaimed space: {units.decimal_size(answer.get('SpaceReclaimed') or 0)}")
    return 0


_MANY = "CONTAINER [CONTAINER...]"

STOP = Command(
    _stopper("stop"), f"[OPTIONS] {_MANY}", (1, None), (_SIGNAL, _TIMEOUT, _TIME), completes="running"
)
RESTART = Command(
    _stopper("restart"), f"[OPTIONS] {_MANY}", (1, None), (_SIGNAL, _TIMEOUT, _TIME), completes="containers"
)
KILL = Command(_kill, f"[OPTIONS] {_MANY}", (1, None), (_SIGNAL,), completes="running")
PAUSE = Command(_poster("pause"), _MANY, (1, None), completes="running")
UNPAUSE = Command(_poster("unpause"), _MANY, (1, None), completes="running")
REMOVE = Command(
    _remove,
    f"[OPTIONS] {_MANY}",
    (1, None),
    (
        Flag("force", "bool", "Force the removal of a running container (uses SIGKILL)", short="f"),
        Flag("link", "bool", "Remove the specified link", short="l"),
        Flag("volumes", "bool", "Remove anonymous volumes associated with the container", short="v"),
    ),
    completes="containers",
)
WAIT = Command(_wait, _MANY, (1, None), completes="running")
RENAME = Command(_rename, "CONTAINER NEW_NAME", (2, 2), completes="containers")
UPDATE = Command(_update, f"[OPTIONS] {_MANY}", (1, None), UPDATE_FLAGS, completes="containers")
PRUNE = Command(
    _prune,
    "[OPTIONS]",
    (0, 0),
    (
        Flag("filter", "filter", 'Provide filter values (e.g. "until=<timestamp>")'),
        Flag("force", "bool", "Do not prompt for confirmation", short="f"),
    ),
)
