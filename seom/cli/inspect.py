"""inspect: whole documents of containers, images, networks and volumes."""

from __future__ import annotations

from seom.cli import formats, jsontext, output
from seom.cli.commands import Command, Invocation
from seom.cli.errors import CommandError, DaemonError
from seom.cli.flags import Flag
from seom.cli.image_transfer import platform_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from seom.cli.client import Client

_PATHS = {
    "container": "/containers/{}/json",
    "image": "/images/{}/json",
    "network": "/networks/{}",
    "volume": "/volumes/{}",
}


def _fetch(client: Client, kinds: tuple[str, ...], name: str, size: bool, platform: str) -> Any:
    """The first kind of object that has this name. Raises DaemonError, CommandError."""
    for kind in kinds:
        parameters: dict[str, object] = {"size": size and kind == "container"}
        if kind == "image":
            parameters["platform"] = platform_document(platform)
        try:
            return client.get(_PATHS[kind].format(name), parameters)
        except DaemonError as error:
            if error.http_status != 404 or len(kinds) == 1:
                raise
    raise CommandError(f"Error: No such object: {name}")


def _inspector(kinds: tuple[str, ...]) -> Callable[[Invocation], int]:
    def run(invocation: Invocation) -> int:
        options = invocation.options
        chosen = kinds
        kind = str(options.values.get("type") or "")
        if kind:
            if kind not in _PATHS:
                raise CommandError(
                    f'unknown type: "{kind}": must be one of "container", "image", "network", "volume"'
                )
            chosen = (kind,)
        size = bool(options.values.get("size"))
        return _inspect(invocation, chosen, size)

    return run


def _inspect(invocation: Invocation, kinds: tuple[str, ...], size: bool) -> int:
    text = invocation.options.text("format")
    template = formats.DocumentTemplate(text) if text not in ("", "json") else None
    platform = str(invocation.options.values.get("platform") or "")
    documents: list[Any] = []
    shown = 0
    problems: list[str] = []
    for name in invocation.arguments:
        try:
            document = _fetch(invocation.client, kinds, name, size, platform)
        except CommandError as error:
            problems.append(error.message)
            continue
        if template is None:
            documents.append(document)
        else:
            output.line(_render(template, document))
            shown += 1
    if template is None:
        output.line(jsontext.encode(documents, indent=0 if text else 4))
    elif not shown:
        output.line("")
    if problems:
        raise CommandError("\n".join(problems))
    return 0


def _render(template: formats.DocumentTemplate, document: Any) -> str:
    try:
        return template.render(document)
    except CommandError:
        output.line("")
        raise


_TYPE = Flag(
    "type", "string", "Only inspect objects of the given type", complete="container image network volume"
)
_SIZE = Flag("size", "bool", "Display total file sizes if the type is container", short="s")
_PLATFORM = Flag("platform", "string", "Inspect a specific platform of the multi-platform image")

INSPECT = Command(
    _inspector(("container", "image", "network", "volume")),
    "[OPTIONS] NAME|ID [NAME|ID...]",
    (1, None),
    (formats.DOCUMENT_FORMAT, _SIZE, _TYPE),
    completes="containers",
)
CONTAINER = Command(
    _inspector(("container",)),
    "[OPTIONS] CONTAINER [CONTAINER...]",
    (1, None),
    (formats.DOCUMENT_FORMAT, _SIZE),
    completes="containers",
)
IMAGE = Command(
    _inspector(("image",)),
    "[OPTIONS] IMAGE [IMAGE...]",
    (1, None),
    (formats.DOCUMENT_FORMAT, _PLATFORM),
    completes="images",
)
NETWORK = Command(
    _inspector(("network",)),
    "[OPTIONS] NETWORK [NETWORK...]",
    (1, None),
    (formats.DOCUMENT_FORMAT, Flag("verbose", "bool", "Verbose output for diagnostics", short="v")),
    completes="networks",
)
VOLUME = Command(
    _inspector(("volume",)),
    "[OPTIONS] VOLUME [VOLUME...]",
    (1, None),
    (formats.DOCUMENT_FORMAT,),
    completes="volumes",
)
