"""build --output: the result as files (local, tar), as an archive (docker), or in a registry.

DIR, type=local,dest=DIR        the files of the image's root, into a folder
-, type=tar,dest=FILE           the same as a tar archive
type=docker,dest=FILE           the image as `save` writes it
type=registry, type=image,push=true    push the tags
"""

from __future__ import annotations

import os

from seom.cli.errors import CommandError
from seom.cli.image_archive import write_archive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from seom.cli.client import Client

_KINDS = ("local", "tar", "docker", "oci", "image", "registry")


class Output:
    """One --output, taken apart."""

    __slots__ = ("destination", "kind", "push")

    def __init__(self, kind: str, destination: str, push: bool) -> None:
        self.kind = kind
        self.destination = destination
        self.push = push

    @property
    def is_stdout(self) -> bool:
        """Whether nothing else may be written there."""
        return self.kind in ("tar", "docker") and self.destination in ("", "-")


def parse(text: str) -> Output:
    """Read the value of --output. Raises CommandError."""
    if "=" not in text:
        return Output("tar" if text == "-" else "local", text, False)
    fields = dict(field.partition("=")[::2] for field in text.split(","))
    kind, destination = fields.get("type", ""), fields.get("dest", "")
    if kind not in _KINDS:
        raise CommandError(f'invalid output "{text}": type must be one of {", ".join(_KINDS)}')
    if kind == "local" and not destination:
        raise CommandError(f'invalid output "{text}": dest is required for local output')
    if kind == "oci":
        kind = "docker"  # save writes both layouts into one archive
    return Output(kind, destination, kind == "registry" or fields.get("push") == "true")


def deliver(client: Client, image_id: str, tags: list[str], output: Output) -> None:
    """Bring an image that was built to where it is wanted. Raises CommandError, OSError."""
    if output.kind in ("local", "tar"):
        _export(client, image_id, output)
    elif output.kind == "docker":
        names: list[str] = tags or [image_id]
        pieces = client.call("GET", "/images/get", {"names": names}).pieces()
        write_archive(pieces, "" if output.destination == "-" else output.destination, "save")
    elif output.push:
        _push(client, tags)


def _export(client: Client, image_id: str, output: Output) -> None:
    """Through a container that is never started."""
    # A command that no image lacks: it is not run.
    body = {"Image": image_id, "Cmd": ["-"], "NetworkDisabled": True}
    container = client.call("POST", "/containers/create", body=body).json()["Id"]
    try:
        pieces = client.call("GET", f"/containers/{container}/export").pieces()
        if output.kind == "tar":
            write_archive(pieces, "" if output.destination == "-" else output.destination, "export")
        else:
            _unpack(pieces, output.destination)
    finally:
        client.delete(f"/containers/{container}", {"v": True})


def _unpack(pieces: Iterator[bytes], folder: str) -> None:
    import tarfile

    from seom.cli.tar_files import Destination, Pieces

    os.makedirs(folder, exist_ok=True)
    with tarfile.open(fileobj=Pieces(pieces), mode="r|") as archive, Destination(folder, False) as place:
        for member in archive:
            if not member.isdev():
                place.put(archive, member, member.name, member.linkname)


def _push(client: Client, tags: list[str]) -> None:
    from seom.cli import credentials
    from seom.cli.image_transfer import split_reference
    from seom.cli.progress import Display

    if not tags:
        raise CommandError("tag is needed when pushing to registry: give the image a name with -t")
    for reference in tags:
        name, tag = split_reference(reference)
        headers = credentials.auth_header(reference) or {"X-Registry-Auth": credentials.encode_auth({})}
        response = client.call("POST", f"/images/{name}/push", {"tag": tag or "latest"}, headers=headers)
        Display(1).show(response.documents())
