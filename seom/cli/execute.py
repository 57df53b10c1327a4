"""exec: another process inside a running container."""

from __future__ import annotations

from seom.cli import jsontext, request_syntax, sessions, terminal
from seom.cli.commands import Command, Invocation
from seom.cli.errors import CommandError
from seom.cli.flags import Flag
from seom.cli.request_syntax import check_env

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from seom.cli.client import Client
    from seom.cli.flags import Options


def _request(options: Options, command: list[str], keys: str) -> dict[str, Any]:
    env = [variable for path in options.each("env-file") for variable in request_syntax.read_env_file(path)]
    tty, attached = options.on("tty"), not options.on("detach")
    request: dict[str, Any] = {
        "User": options.text("user"),
        "Privileged": options.on("privileged"),
        "Tty": tty,
        "AttachStdin": attached and options.on("interactive"),
        "AttachStdout": attached,
        "AttachStderr": attached,
        "Detach": not attached,
        "DetachKeys": keys,
        "Env": env + request_syntax.resolve_env(options.each("env")),
        "WorkingDir": options.text("workdir"),
        "Cmd": command,
    }
    if tty:
        request["ConsoleSize"] = list(terminal.size(1))
    return request


def _exec(invocation: Invocation) -> int:
    client, options = invocation.client, invocation.options
    container, *command = invocation.arguments
    keys = sessions.detach_keys(options.text("detach-keys")) if options.on("tty") else ("", b"")
    try:
        request = _request(options, command, keys[0])
    except ValueError as error:
        raise CommandError(str(error)) from None
    if not options.on("detach"):
        sessions.require_terminal(request["Tty"], request["AttachStdin"])
    created = client.call("POST", f"/containers/{container}/exec", body=request).json()
    identity = str(created["Id"])
    if options.on("detach"):
        client.post(f"/exec/{identity}/start", body={"Detach": True, "Tty": request["Tty"]})
        return 0
    return _attached(client, request, identity, keys[1])


def _attached(client: Client, request: dict[str, Any], identity: str, keys: bytes) -> int:
    from seom.cli.streams import Detached, Session

    tty = request["Tty"]
    body: dict[str, Any] = {"Detach": False, "Tty": tty}
    if tty:
        body["ConsoleSize"] = request["ConsoleSize"]
    connection, early = sessions.hijack(client, f"/exec/{identity}/start", {}, jsontext.encode(body).encode())
    resize = sessions.resizer(client, f"/exec/{identity}/resize")
    session = Session(
        connection,
        early,
        tty=tty,
        stdin=request["AttachStdin"],
        detach_keys=keys,
        on_resize=resize,
    )
    try:
        session.run(resize if tty else None)
    except Detached:
        raise CommandError("read escape sequence") from None
    return int(client.get(f"/exec/{identity}/json").get("ExitCode") or 0)


EXEC = Command(
    _exec,
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    (2, None),
    (
        Flag("detach", "bool", "Detached mode: run command in the background", short="d"),
        Flag("detach-keys", "string", "Override the key sequence for detaching a container"),
        Flag("env", "list", "Set environment variables", short="e", check=check_env),
        Flag("env-file", "list", "Read in a file of environment variables", complete="files"),
        Flag("interactive", "bool", "Keep STDIN open even if not attached", short="i"),
        Flag("privileged", "bool", "Give extended privileges to the command"),
        Flag("tty", "bool", "Allocate a pseudo-TTY", short="t"),
        Flag("user", "string", 'Username or UID (format: "<name|uid>[:<group|gid>]")', short="u"),
        Flag("workdir", "string", "Working directory inside the container", short="w"),
    ),
    interspersed=False,
    completes="running",
)
