"""cp, export and commit: files in and out of containers."""

from __future__ import annotations

import os

from seom.cli import jsontext, output, units
from seom.cli.commands import Command, Invocation
from seom.cli.errors import CommandError, DaemonError
from seom.cli.flags import Flag
from seom.cli.image_archive import read_pieces, write_archive
from seom.cli.image_transfer import split_reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from seom.cli.client import Client

_DIRECTORY = 1 << 31
_SYMLINK = 1 << 27


def split_place(text: str) -> tuple[str, str]:
    """(container, path); no container for a path on this machine, which may begin with / or "."."""
    if os.path.isabs(text):
        return "", text
    container, colon, path = text.partition(":")
    if not colon or container.startswith("."):
        return "", text
    return container, path


def _copy(invocation: Invocation) -> int:
    source, target = invocation.arguments
    if not source or not target:
        raise CommandError("source and destination can not be empty")
    from_container, source = split_place(source)
    to_container, target = split_place(target)
    if from_container and to_container:
        raise CommandError("copying between containers is not supported")
    if from_container:
        return _copy_out(invocation, from_container, source, target)
    if to_container:
        return _copy_in(invocation, to_container, source, target)
    raise CommandError("must specify at least one container source")


def _stat(client: Client, container: str, path: str) -> dict[str, Any]:
    """What the daemon says of a path: name, size, mode (Go's bits), linkTarget. Raises DaemonError."""
    import binascii

    response = client.send("HEAD", f"/containers/{container}/archive", {"path": path})
    response.read()
    if response.status >= 400:
        client.call("GET", f"/containers/{container}/archive", {"path": path}).read()
        raise CommandError(f"Error response from daemon: HTTP status {response.status}")
    stat = jsontext.decode(binascii.a2b_base64(response.headers["x-docker-container-path-stat"]))
    return dict(stat)


def _copy_out(invocation: Invocation, container: str, source: str, target: str) -> int:
    from seom.cli import tar_files

    client, options = invocation.client, invocation.options
    if target != "-":
        folder = os.path.dirname(os.path.abspath(target))
        if not os.path.isdir(folder):
            raise CommandError(f'invalid output path: directory "{folder}" does not exist')
    rebase = ""
    if options.on("follow-link"):
        source, rebase = _follow(client, container, source)
    parameters: dict[str, object] = {"path": source or "/"}
    response = client.call("GET", f"/containers/{container}/archive", parameters)
    if target == "-":
        if os.isatty(1):
            response.read()
            raise CommandError("cowardly refusing to write a tar archive to a terminal; redirect the output")
        for piece in response.pieces():
            output.write_bytes(piece)
        return 0
    if os.path.islink(target) and not os.path.isdir(target):
        target = os.path.realpath(target)
    size = tar_files.extract(response.pieces(), source, target, rebase, ownership=options.on("archive"))
    if not options.on("quiet") and os.isatty(2):
        output.error(f"Successfully copied {units.decimal_size(size, 3)} to {os.path.abspath(target)}")
    return 0


def _follow(client: Client, container: str, source: str) -> tuple[str, str]:
    """The path behind a symbolic link, and the name under which it was asked for."""
    stat = _stat(client, container, source)
    if not stat["mode"] & _SYMLINK:
        return source, ""
    link = stat["linkTarget"]
    if not link.startswith("/"):
        link = os.path.join(os.path.dirname(source), link)
    return link, os.path.basename(source.rstrip("/"))


def _copy_in(invocation: Invocation, container: str, source: str, target: str) -> int:
    from seom.cli import tar_files

    client, options = invocation.client, invocation.options
    target = target or "/"
    folder, name = _destination(client, container, source, target)
    if source == "-":
        pieces, counted = read_pieces(0), [0]
    else:
        if options.on("follow-link"):
            source = os.path.realpath(source) + ("/" if source.endswith("/") else "")
        pieces, counted = tar_files.pack(source, name)
    parameters: dict[str, object] = {
        "path": folder,
        "noOverwriteDirNonDir": "true",
        "copyUIDGID": options.on("archive"),
    }
    headers = {"Content-Type": "application/x-tar"}
    path = f"/containers/{container}/archive"
    client.call("PUT", path, parameters, headers=headers, content=pieces).read()
    if source != "-" and not options.on("quiet") and os.isatty(2):
        output.error(f"Successfully copied {units.decimal_size(counted[0], 3)} to {container}:{target}")
    return 0


def _destination(client: Client, container: str, source: str, target: str) -> tuple[str, str]:
    """The folder to unpack into, and the name of the copy there ("": the source's own)."""
    stat: dict[str, Any] | None
    try:
        stat = _stat(client, container, target)
        if stat["mode"] & _SYMLINK:
            link = stat["linkTarget"]
            target = link if link.startswith("/") else os.path.join(os.path.dirname(target.rstrip("/")), link)
            stat = _stat(client, container, target)
    except DaemonError as error:
        if error.http_status != 404 or "No such container" in error.reason:
            raise
        stat = None
    is_folder = stat is not None and bool(stat["mode"] & _DIRECTORY)
    if source == "-":
        if not is_folder:
            raise CommandError(f'destination "{container}:{target}" must be a directory')
        return target, ""
    if not os.path.lexists(source):
        raise CommandError(f"lstat {os.path.abspath(source)}: no such file or directory")
    source_is_folder = os.path.isdir(source)
    if is_folder:
        contents_only = (source_is_folder and source.rstrip("/").endswith("/.")) or source in (".", "./")
        return target, "." if contents_only else ""
    if stat is not None and source_is_folder:
        raise CommandError("cannot copy directory")
    if stat is None and target.endswith("/") and not source_is_folder:
        raise CommandError(f'destination directory "{target}" must exist in the container; make it first')
    return os.path.dirname(target.rstrip("/")) or "/", os.path.basename(target.rstrip("/"))


def _export(invocation: Invocation) -> int:
    path = invocation.options.text("output")
    if not path and os.isatty(1):
        raise CommandError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    response = invocation.client.call("GET", f"/containers/{invocation.arguments[0]}/export")
    write_archive(response.pieces(), path, "save")
    return 0


def _commit(invocation: Invocation) -> int:
    options = invocation.options
    container, *rest = invocation.arguments
    name, tag = split_reference(rest[0]) if rest else ("", "")
    parameters: dict[str, object] = {
        "container": container,
        "repo": name,
        "tag": tag,
        "author": options.text("author"),
        "comment": options.text("message"),
        "changes": options.each("change"),
        "pause": "1" if options.on("pause") else "0",
    }
    answer = invocation.client.call("POST", "/commit", parameters, body={}).json()
    output.line(answer["Id"])
    return 0


COPY = Command(
    _copy,
    "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n[OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    (2, 2),
    (
        Flag("archive", "bool", "Archive mode (copy all uid/gid information)", short="a"),
        Flag("follow-link", "bool", "Always follow symbol link in SRC_PATH", short="L"),
        Flag("quiet", "bool", "Suppress the summary, which is printed only to a terminal", short="q"),
    ),
    completes="containers",
    details=(
        "Use '-' as the source to read a tar archive from stdin and extract it to a directory\n"
        "destination in a container. Use '-' as the destination to stream a tar archive of a\n"
        "container source to stdout."
    ),
)
EXPORT = Command(
    _export,
    "[OPTIONS] CONTAINER",
    (1, 1),
    (Flag("output", "string", "Write to a file, instead of STDOUT", short="o", complete="files"),),
    completes="containers",
)
COMMIT = Command(
    _commit,
    "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    (1, 2),
    (
        Flag("author", "string", 'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")', short="a"),
        Flag("change", "list", "Apply Dockerfile instruction to the created image", short="c"),
        Flag("message", "string", "Commit message", short="m"),
        Flag("pause", "bool", "Pause container during commit", short="p", default=True),
    ),
    completes="containers",
)
