"""build and builder prune: images from Dockerfiles."""

from __future__ import annotations

import os

from seom.cli import credentials, jsontext, output, units
from seom.cli.commands import Command, Invocation
from seom.cli.errors import CommandError
from seom.cli.filters import encode_filters
from seom.cli.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from seom.cli.build_output import Output
    from seom.cli.flags import Options


def _build(invocation: Invocation) -> int:
    options = invocation.options
    check = options.on("check")
    outputs = _outputs(options)
    pieces, dockerfile = _context(invocation.arguments[0], options.text("file"), bare=check)
    response = invocation.client.call(
        "POST",
        "/build",
        _parameters(options, dockerfile),
        headers={"Content-Type": "application/x-tar", **_accounts()},
        content=pieces,
    )
    quiet = options.on("quiet") or any(wanted.is_stdout for wanted in outputs)
    progress = "plain" if check else options.text("progress")
    image_id = _show(response.documents(), progress, quiet=quiet)
    if check:
        return 0
    if path := options.text("iidfile"):
        with open(path, "w", encoding="ascii") as file:
            file.write(image_id)
    if options.on("quiet"):
        output.line(image_id)
    if outputs:
        from seom.cli import build_output

        for wanted in outputs:
            build_output.deliver(invocation.client, image_id, options.each("tag"), wanted)
    return 0


def _outputs(options: Options) -> list[Output]:
    """What --output asks for; checked before anything is built."""
    if not options.each("output"):
        return []
    from seom.cli.build_output import parse

    return [parse(text) for text in options.each("output")]


def _context(path: str, dockerfile: str, *, bare: bool) -> tuple[Iterator[bytes], str]:
    """The tar stream to send, and the Dockerfile's name in it; bare: without the other files."""
    from seom.cli import build_context

    if path == "-":
        return build_context.from_stdin(dockerfile)
    if "://" in path or path.startswith("git@"):
        raise CommandError(
            f"cannot build from {path}: fetch it first (git clone, curl), then build from the folder"
        )
    if not os.path.isdir(path):
        raise CommandError(f'unable to prepare context: path "{path}" not found')
    return build_context.from_folder(path, dockerfile, bare=bare)


def _parameters(options: Options, dockerfile: str) -> dict[str, object]:
    arguments: dict[str, str | None] = {}
    for item in options.each("build-arg"):
        name, equals, value = item.partition("=")
        arguments[name] = value if equals else os.environ.get(name)
    labels = dict(item.partition("=")[::2] for item in options.each("label"))
    return {
        "t": options.each("tag"),
        "dockerfile": dockerfile,
        "check": options.on("check"),
        "buildargs": arguments,
        "labels": labels,
        "target": options.text("target"),
        "platform": options.text("platform"),
        "networkmode": options.text("network"),
        "extrahosts": options.each("add-host"),
        "shmsize": options.number("shm-size"),
        "memory": options.number("memory"),
        "nocache": options.on("no-cache"),
        "pull": options.on("pull"),
        "squash": options.on("squash"),
        "rm": True,
        "version": "1",
    }


def _accounts() -> dict[str, str]:
    """The accounts of all registries that the user is signed in to: any image may be needed."""
    config = credentials.load_config()
    registries = {*(config.get("auths") or {}), *(config.get("credHelpers") or {})}
    found = {registry: credentials.auth_for(registry) for registry in sorted(registries)}
    known = {registry: auth for registry, auth in found.items() if auth}
    return {"X-Registry-Config": credentials.encode_auth(known)} if known else {}


def _show(messages: Iterable[dict[str, Any]], progress: str, *, quiet: bool) -> str:
    """Show a build until its end; returns the image id. Raises CommandError with the command's code."""
    from seom.cli.build_progress import display_for

    image_id = ""
    display = display_for(progress, quiet=quiet)
    for message in messages:
        if "errorDetail" in message or "error" in message:
            detail = message.get("errorDetail") or {"message": message["error"]}
            display.fail()
            raise CommandError(str(detail.get("message", "")), int(detail.get("code") or 1), final=True)
        if "aux" in message:
            image_id = str(message["aux"].get("ID", ""))
        else:
            display.take(message)
    display.end()
    return image_id


def _prune(invocation: Invocation) -> int:
    options = invocation.options
    every = options.on("all")
    kind = "all build cache" if every else "all dangling build cache"
    question = f"WARNING! This will remove {kind}. Are you sure you want to continue?"
    if not options.on("force") and not output.confirm(question):
        return 0
    parameters: dict[str, object] = {
        "all": every,
        "filters": encode_filters(options.each("filter")),
        "keep-storage": options.number("keep-storage"),
    }
    answer = jsontext.decode(invocation.client.post("/build/prune", parameters))
    if deleted := answer.get("CachesDeleted"):
        output.line("Deleted build cache objects:")
        for key in deleted:
            output.line(key)
        output.line("")
    output.line(f"Total reclaimed space: {units.decimal_size(int(answer.get('SpaceReclaimed') or 0))}")
    return 0


BUILD = Command(
    _build,
    "[OPTIONS] PATH | -",
    (1, 1),
    (
        Flag("add-host", "list", 'Add a custom host-to-IP mapping ("host:ip")'),
        Flag("build-arg", "list", "Set build-time variables"),
        Flag("check", "bool", "Look for mistakes in the Dockerfile, without building anything"),
        Flag(
            "file",
            "string",
            "Name of the Dockerfile (default: PATH/Dockerfile)",
            short="f",
            complete="files",
        ),
        Flag("iidfile", "string", "Write the image ID to the file", complete="files"),
        Flag("label", "list", "Set metadata for an image"),
        Flag("memory", "bytes", "Memory limit of the commands", short="m"),
        Flag("network", "string", "Set the networking mode for the RUN instructions during build"),
        Flag("no-cache", "bool", "Do not use cache when building the image"),
        Flag("output", "list", 'Output destination (format: "type=local,dest=path")', short="o"),
        Flag("platform", "string", "Set platform if server is multi-platform capable"),
        Flag(
            "progress",
            "string",
            "Set type of progress output (auto, plain, tty)",
            default="auto",
            complete="auto plain tty",
        ),
        Flag("pull", "bool", "Always attempt to pull a newer version of the image"),
        Flag("quiet", "bool", "Suppress the build output and print image ID on success", short="q"),
        Flag("shm-size", "bytes", 'Size of "/dev/shm"'),
        Flag("squash", "bool", "Squash newly built layers into a single new layer"),
        Flag("tag", "list", 'Name and optionally a tag in the "name:tag" format', short="t"),
        Flag("target", "string", "Set the target build stage to build"),
    ),
    completes="files",
)

PRUNE = Command(
    _prune,
    "[OPTIONS]",
    (0, 0),
    (
        Flag("all", "bool", "Remove all build cache, not just what no image is made of", short="a"),
        Flag("filter", "filter", 'Provide filter values (e.g. "until=24h")'),
        Flag("force", "bool", "Do not prompt for confirmation", short="f"),
        Flag("keep-storage", "bytes", "Amount of disk space to keep for cache"),
    ),
)
