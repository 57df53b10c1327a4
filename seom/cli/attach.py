"""attach to a running container, and start, which can attach before it starts."""

from __future__ import annotations

from seom.cli import output, sessions
from seom.cli.commands import Command, Invocation
from seom.cli.errors import CommandError, DaemonError
from seom.cli.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from seom.cli.client import Client


def _session(client: Client, container: dict[str, Any], stdin: bool, keys_text: str, proxy: bool) -> Any:
    """A Session on the container's streams, not yet running."""
    from seom.cli.streams import Session

    identity, config = container["Id"], container["Config"]
    tty = bool(config["Tty"])
    stdin = stdin and bool(config["OpenStdin"])
    sessions.require_terminal(tty, stdin)
    keys = sessions.detach_keys(keys_text) if tty else ("", b"")
    parameters: dict[str, object] = {
        "stream": True,
        "stdin": stdin,
        "stdout": True,
        "stderr": True,
        "detachKeys": keys[0],
    }
    connection, early = sessions.hijack(client, f"/containers/{identity}/attach", parameters)
    return Session(
        connection,
        early,
        tty=tty,
        stdin=stdin,
        detach_keys=keys[1],
        on_resize=sessions.resizer(client, f"/containers/{identity}/resize"),
        on_signal=sessions.signaller(client, identity) if proxy and not tty else None,
    )


def _attach(invocation: Invocation) -> int:
    from seom.cli.streams import Detached

    client, options = invocation.client, invocation.options
    container = client.get(f"/containers/{invocation.arguments[0]}/json")
    state = container["State"]
    if not state["Running"]:
        raise CommandError("cannot attach to a stopped container, start it first")
    if state["Paused"]:
        raise CommandError("cannot attach to a paused container, unpause it first")
    if state["Restarting"]:
        raise CommandError("cannot attach to a restarting container, wait until it is running")
    waiting = sessions.Waiting(client, container["Id"], "not-running")
    session = _session(
        client, container, not options.on("no-stdin"), options.text("detach-keys"), options.on("sig-proxy")
    )
    resize = sessions.resizer(client, f"/containers/{container['Id']}/resize")
    try:
        session.run(resize if container["Config"]["Tty"] else None)
    except Detached:
        raise CommandError("read escape sequence") from None
    return waiting.status()


def _start(invocation: Invocation) -> int:
    options, names = invocation.options, invocation.arguments
    if not (options.on("attach") or options.on("interactive")):
        return _start_each(invocation.client, names)
    if len(names) > 1:
        raise CommandError("you cannot start and attach multiple containers at once")
    return _start_attached(invocation, names[0])


def _start_each(client: Client, names: list[str]) -> int:
    failed = []
    for name in names:
        try:
            client.post(f"/containers/{name}/start")
            output.line(name)
        except DaemonError as error:
            output.error(error.message)
            failed.append(name)
    if failed:
        raise CommandError(f"Error: failed to start containers: {', '.join(failed)}")
    return 0


def _start_attached(invocation: Invocation, name: str) -> int:
    from seom.cli.streams import Detached

    client, options = invocation.client, invocation.options
    container = client.get(f"/containers/{name}/json")
    identity = container["Id"]
    session = _session(client, container, options.on("interactive"), options.text("detach-keys"), True)
    remove = container["HostConfig"]["AutoRemove"]
    waiting = sessions.Waiting(client, identity, "removed" if remove else "next-exit")

    def begin() -> None:
        try:
            client.post(f"/containers/{identity}/start")
        except DaemonError as error:
            if remove:
                waiting.end()
            raise sessions.start_failure(error) from None
        if container["Config"]["Tty"]:
            sessions.resizer(client, f"/containers/{identity}/resize")()

    try:
        session.run(begin)
    except Detached:
        return 0
    return waiting.status()


ATTACH = Command(
    _attach,
    "[OPTIONS] CONTAINER",
    (1, 1),
    (
        Flag("detach-keys", "string", "Override the key sequence for detaching a container"),
        Flag("no-stdin", "bool", "Do not attach STDIN"),
        Flag("sig-proxy", "bool", "Proxy all received signals to the process", default=True),
    ),
    completes="running",
)

START = Command(
    _start,
    "[OPTIONS] CONTAINER [CONTAINER...]",
    (1, None),
    (
        Flag("attach", "bool", "Attach STDOUT/STDERR and forward signals", short="a"),
        Flag("detach-keys", "string", "Override the key sequence for detaching a container"),
        Flag("interactive", "bool", "Attach container's STDIN", short="i"),
    ),
    completes="containers",
)
