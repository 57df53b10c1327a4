"""save, load, import: images as tar archives."""

from __future__ import annotations

import os

from seom.cli import output
from seom.cli.commands import Command, Invocation
from seom.cli.errors import CommandError
from seom.cli.flags import Flag
from seom.cli.image_transfer import platform_document, split_reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PIECE_BYTES = 262144


def read_pieces(descriptor: int) -> Iterator[bytes]:
    """A file or pipe in large pieces."""
    while piece := os.read(descriptor, _PIECE_BYTES):
        yield piece


def write_archive(pieces: Iterable[bytes], path: str, what: str) -> None:
    """A stream into a file, which appears only when it is complete, or to a stdout that is no terminal."""
    if not path:
        if os.isatty(1):
            raise CommandError(f"cowardly refusing to {what} to a terminal. Use the -o flag or redirect")
        for piece in pieces:
            output.write_bytes(piece)
        return
    if os.path.exists(path) and not os.path.isfile(path):
        descriptor = os.open(path, os.O_WRONLY)
        for piece in pieces:
            output.write_bytes(piece, descriptor)
        return
    unfinished = f"{path}.{os.getpid()}.part"
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        for piece in pieces:
            output.write_bytes(piece, descriptor)
        os.close(descriptor)
        os.replace(unfinished, path)
    except BaseException:
        os.unlink(unfinished)
        raise


def _save(invocation: Invocation) -> int:
    options = invocation.options
    path = options.text("output")
    if not path and os.isatty(1):
        raise CommandError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    folder = os.path.dirname(path)
    if path and folder and not os.path.isdir(folder):
        raise CommandError(f'failed to save image: invalid output path: directory "{folder}" does not exist')
    parameters: dict[str, object] = {
        "names": invocation.arguments,
        "platform": platform_document(options.text("platform")),
    }
    write_archive(invocation.client.call("GET", "/images/get", parameters).pieces(), path, "save")
    return 0


def _load(invocation: Invocation) -> int:
    from seom.cli.progress import Display

    options = invocation.options
    path = options.text("input")
    if not path and os.isatty(0):
        raise CommandError("requested load from stdin, but stdin is empty")
    descriptor = os.open(path, os.O_RDONLY) if path else 0
    quiet = options.on("quiet") or not os.isatty(1)
    response = invocation.client.call(
        "POST",
        "/images/load",
        {"quiet": quiet, "platform": platform_document(options.text("platform"))},
        headers={"Content-Type": "application/x-tar"},
        content=read_pieces(descriptor),
    )
    if "json" in response.headers.get("content-type", ""):
        Display(1).show(response.documents())
    else:
        for piece in response.pieces():
            output.write_bytes(piece)
    return 0


def _import(invocation: Invocation) -> int:
    from seom.cli.progress import Display

    options = invocation.options
    source, *rest = invocation.arguments
    name, tag = split_reference(rest[0]) if rest else ("", "")
    parameters: dict[str, object] = {
        "fromSrc": "-",
        "repo": name,
        "tag": tag,
        "message": options.text("message"),
        "platform": options.text("platform"),
        "changes": options.each("change"),
    }
    content: Iterator[bytes] | None = None
    if source.startswith(("http://", "https://")):
        parameters["fromSrc"] = source
    else:
        content = read_pieces(0 if source == "-" else os.open(source, os.O_RDONLY))
    response = invocation.client.call(
        "POST", "/images/create", parameters, headers={"Content-Type": "application/x-tar"}, content=content
    )
    Display(1).show(response.documents())
    return 0


SAVE = Command(
    _save,
    "[OPTIONS] IMAGE [IMAGE...]",
    (1, None),
    (
        Flag("output", "string", "Write to a file, instead of STDOUT", short="o", complete="files"),
        Flag("platform", "string", "Save only the given platform variant"),
    ),
    completes="images",
)
LOAD = Command(
    _load,
    "[OPTIONS]",
    (0, 0),
    (
        Flag("input", "string", "Read from tar archive file, instead of STDIN", short="i", complete="files"),
        Flag("platform", "string", "Load only the given platform variant"),
        Flag("quiet", "bool", "Suppress the load output", short="q"),
    ),
)
IMPORT = Command(
    _import,
    "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    (1, 2),
    (
        Flag("change", "list", "Apply Dockerfile instruction to the created image", short="c"),
        Flag("message", "string", "Set commit message for imported image", short="m"),
        Flag("platform", "string", "Set platform if server is multi-platform capable"),
    ),
    completes="files",
)
