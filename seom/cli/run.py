"""create and run.

create -> (image missing: pull, create again) -> attach -> wait(next-exit) -> start -> resize
       -> copy the streams -> exit with the container's status
"""

from __future__ import annotations

import os

from seom.cli import output, sessions, terminal
from seom.cli.commands import Command, Invocation
from seom.cli.container_options import CREATE_FLAGS, RUN_FLAGS
from seom.cli.container_request import build_request
from seom.cli.errors import CommandError, DaemonError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from seom.cli.client import Client
    from seom.cli.flags import Options

_PULL_POLICIES = ("always", "missing", "never", "")


def create(client: Client, options: Options, image: str, request: dict[str, Any]) -> str:
    """Create a container, pulling its image as --pull says; returns its id."""
    policy = options.text("pull")
    if policy not in _PULL_POLICIES:
        raise CommandError(
            f'invalid pull option: \'{policy}\': must be one of "always", "missing" or "never"', 125
        )
    with _IdFile(options.text("cidfile")) as id_file:
        if policy == "always":
            _pull(client, options, image)
        parameters: dict[str, object] = {"name": options.text("name"), "platform": options.text("platform")}
        try:
            answer = client.call("POST", "/containers/create", parameters, request).json()
        except DaemonError as error:
            if (
                error.http_status != 404
                or policy not in ("missing", "")
                or "image" not in error.reason.lower()
            ):
                raise
            from seom.cli.image_transfer import with_default_tag

            if not options.on("quiet"):
                output.error(f"Unable to find image '{with_default_tag(image)}' locally")
            _pull(client, options, image)
            answer = client.call("POST", "/containers/create", parameters, request).json()
        for warning in answer.get("Warnings") or ():
            output.error(f"WARNING: {warning}")
        identity = str(answer["Id"])
        id_file.write(identity)
    return identity


def _pull(client: Client, options: Options, image: str) -> None:
    from seom.cli.image_transfer import pull, with_default_tag

    pull(client, with_default_tag(image), options.text("platform"), 2, options.on("quiet"))


class _IdFile:
    """--cidfile: must be new, is removed again when nothing was created."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._written = False
        if not path:
            return
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except FileExistsError:
            raise CommandError(
                f"container ID file found, make sure the other container isn't running or delete {path}", 125
            ) from None
        except OSError as error:
            raise CommandError(
                f"failed to create the container ID file {path}: {error.strerror}", 125
            ) from None

    def __enter__(self) -> _IdFile:
        return self

    def write(self, identity: str) -> None:
        if self._path:
            with open(self._path, "w", encoding="ascii") as file:
                file.write(identity)
        self._written = True

    def __exit__(self, *_: object) -> None:
        if self._path and not self._written:
            os.unlink(self._path)


def _create(invocation: Invocation) -> int:
    image, *command = invocation.arguments
    request = build_request(invocation.options, image, command, detach=False)
    _note_console_size(request)
    output.line(create(invocation.client, invocation.options, image, request))
    return 0


def _note_console_size(request: dict[str, Any]) -> None:
    if request["Tty"]:
        request["HostConfig"]["ConsoleSize"] = list(terminal.size(1))


def _run(invocation: Invocation) -> int:
    client, options = invocation.client, invocation.options
    image, *command = invocation.arguments
    detach = options.on("detach")
    if detach and options.each("attach"):
        raise CommandError("conflicting options: cannot specify both --attach and --detach", final=True)
    request = build_request(options, image, command, detach)
    _note_console_size(request)
    if not detach:
        sessions.require_terminal(request["Tty"], request["AttachStdin"])
    keys = sessions.detach_keys(options.text("detach-keys")) if request["Tty"] else ("", b"")
    identity = create(client, options, image, request)
    if detach or not (request["AttachStdin"] or request["AttachStdout"] or request["AttachStderr"]):
        _start(client, identity)
        output.line(identity)
        return 0
    return _run_attached(client, options, request, identity, keys)


def _start(client: Client, identity: str) -> None:
    try:
        client.post(f"/containers/{identity}/start")
    except DaemonError as error:
        raise sessions.start_failure(error) from None


def _run_attached(
    client: Client, options: Options, request: dict[str, Any], identity: str, keys: tuple[str, bytes]
) -> int:
    from seom.cli.streams import Detached, Session

    tty, remove = request["Tty"], request["HostConfig"]["AutoRemove"]
    streams = {name: request[f"Attach{name.capitalize()}"] for name in ("stdin", "stdout", "stderr")}
    parameters: dict[str, object] = {"stream": True, **streams, "detachKeys": keys[0]}
    connection, early = sessions.hijack(client, f"/containers/{identity}/attach", parameters)
    waiting = sessions.Waiting(client, identity, "removed" if remove else "next-exit")
    resize = sessions.resizer(client, f"/containers/{identity}/resize")
    proxies = options.on("sig-proxy") and not tty
    session = Session(
        connection,
        early,
        tty=tty,
        stdin=streams["stdin"],
        stdout=streams["stdout"],
        stderr=streams["stderr"],
        detach_keys=keys[1],
        on_resize=resize,
        on_signal=sessions.signaller(client, identity) if proxies else None,
    )

    def begin() -> None:
        try:
            _start(client, identity)
        except CommandError:
            if remove:
                waiting.end()
            raise
        if tty:
            resize()

    try:
        session.run(begin)
    except Detached:
        return 0
    return waiting.status()


CREATE = Command(
    _create,
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    (1, None),
    CREATE_FLAGS,
    interspersed=False,
    completes="images",
    error_status=1,
)

RUN = Command(
    _run,
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    (1, None),
    RUN_FLAGS,
    interspersed=False,
    completes="images",
    error_status=125,
)
