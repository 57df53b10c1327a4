"""images, history, tag, rmi, image prune."""

from __future__ import annotations

from seom.cli import formats, output, units
from seom.cli.cells import shorten
from seom.cli.commands import Command, Invocation
from seom.cli.errors import CommandError, DaemonError
from seom.cli.filters import encode_filters
from seom.cli.flags import Flag
from seom.cli.formats import Columns
from seom.cli.image_transfer import platform_document, split_reference
from seom.cli.timestamps import ago, local_text, rfc3339

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_NONE = "<none>"


def image_id(identity: str, truncate: bool) -> str:
    """The id, or its first 12 digits."""
    return identity.removeprefix("sha256:")[:12] if truncate else identity


def entries(images: list[dict[str, Any]], digests: bool) -> Iterator[dict[str, Any]]:
    """One entry a name: an image with several names is shown several times."""
    for image in images:
        by_name: dict[str, tuple[list[str], list[str]]] = {}
        for kind, references in enumerate((image.get("RepoTags") or (), image.get("RepoDigests") or ())):
            for reference in references:
                name, version = split_reference(reference)
                if name != _NONE:
                    by_name.setdefault(name, ([], []))[kind].append(version)
        if not by_name:
            yield {**image, "Repository": _NONE, "Tag": _NONE, "Digest": _NONE}
        for name, (tags, hashes) in by_name.items():
            for tag in tags or [_NONE]:
                for digest in (hashes if digests else []) or [_NONE]:
                    yield {**image, "Repository": name, "Tag": tag, "Digest": digest}


def columns(truncate: bool) -> Columns:
    """What --format can name."""
    table: dict[str, tuple[str, Callable[[Any], Any]]] = {
        "ID": ("IMAGE ID", lambda i: image_id(i["Id"], truncate)),
        "Repository": ("REPOSITORY", lambda i: i["Repository"]),
        "Tag": ("TAG", lambda i: i["Tag"]),
        "Digest": ("DIGEST", lambda i: i["Digest"]),
        "CreatedSince": ("CREATED", lambda i: ago(i["Created"]) if i["Created"] else "N/A"),
        "CreatedAt": ("CREATED AT", lambda i: local_text(i["Created"])),
        "Size": ("SIZE", lambda i: units.decimal_size(i["Size"], 3)),
        "Containers": ("CONTAINERS", lambda i: _count(i.get("Containers"))),
        "VirtualSize": ("SIZE", lambda i: units.decimal_size(i["Size"])),
        "SharedSize": ("SHARED SIZE", lambda i: _measured(i.get("SharedSize"))),
        "UniqueSize": ("UNIQUE SIZE", _unique_size),
    }
    return Columns(table)


def _count(value: int | None) -> str:
    return "N/A" if value is None or value < 0 else str(value)


def _measured(value: int | None) -> str:
    return "N/A" if value is None or value < 0 else units.decimal_size(value)


def _unique_size(image: dict[str, Any]) -> str:
    shared = image.get("SharedSize")
    return "N/A" if shared is None or shared < 0 else units.decimal_size(image["Size"] - shared)


def _images(invocation: Invocation) -> int:
    options = invocation.options
    reference = {"reference": invocation.arguments[0]} if invocation.arguments else None
    parameters: dict[str, object] = {
        "all": options.on("all"),
        "digests": options.on("digests"),
        "filters": encode_filters(options.each("filter"), reference),
    }
    images = invocation.client.get("/images/json", parameters)
    truncate = not options.on("no-trunc")
    text = options.text("format")
    listed = list(entries(images, options.on("digests") or ".Digest" in text))
    if options.on("quiet") and not text:
        for entry in listed:
            output.line(image_id(entry["Id"], truncate))
        return 0
    default = ["Repository", "Tag", "ID", "CreatedSince", "Size"]
    if options.on("digests"):
        default.insert(2, "Digest")
    formats.show_rows(columns(truncate), listed, text, default)
    return 0


def _history(invocation: Invocation) -> int:
    options = invocation.options
    parameters: dict[str, object] = {"platform": platform_document(options.text("platform"))}
    layers = invocation.client.get(f"/images/{invocation.arguments[0]}/history", parameters)
    truncate, human = not options.on("no-trunc"), options.on("human")
    text = options.text("format")
    if options.on("quiet") and not text:
        text = "{{.ID}}"
    default = ["ID", "CreatedSince", "CreatedBy", "Size", "Comment"]
    formats.show_rows(_history_columns(truncate, human), layers, text, default)
    return 0


def _history_columns(truncate: bool, human: bool) -> Columns:
    def created_by(layer: dict[str, Any]) -> str:
        text = str(layer.get("CreatedBy") or "").replace("\t", " ")
        return shorten(text, 45) if truncate else text

    def created(layer: dict[str, Any]) -> str:
        if layer["Created"] <= -62135596800:
            return "N/A"
        return ago(layer["Created"]) if human else rfc3339(layer["Created"])

    def size(layer: dict[str, Any]) -> str:
        return units.decimal_size(layer["Size"], 3) if human else str(layer["Size"])

    return Columns(
        {
            "ID": ("IMAGE", lambda layer: image_id(layer["Id"], truncate)),
            "CreatedSince": ("CREATED" if human else "CREATED AT", created),
            "CreatedAt": ("CREATED AT", lambda layer: rfc3339(layer["Created"])),
            "CreatedBy": ("CREATED BY", created_by),
            "Size": ("SIZE", size),
            "Comment": ("COMMENT", lambda layer: layer.get("Comment") or ""),
        }
    )


def _tag(invocation: Invocation) -> int:
    source, target = invocation.arguments
    name, tag = split_reference(target)
    wrong = f'Error parsing reference: "{target}" is not a valid repository/tag: '
    if tag.startswith("sha256:"):
        raise CommandError(wrong + "refusing to create a tag with a digest reference")
    try:
        invocation.client.post(f"/images/{source}/tag", {"repo": name, "tag": tag or "latest"})
    except DaemonError as error:
        if error.reason == "invalid reference format":
            raise CommandError(wrong + error.reason) from None
        raise
    return 0


def _remove(invocation: Invocation) -> int:
    options = invocation.options
    force = options.on("force")
    parameters: dict[str, object] = {"force": force, "noprune": options.on("no-prune")}
    problems, fatal = [], False
    for name in invocation.arguments:
        try:
            removed = invocation.client.call("DELETE", f"/images/{name}", parameters).json()
        except DaemonError as error:
            problems.append(error.message)
            fatal = fatal or error.http_status != 404
            continue
        for item in removed or ():
            output.line(
                f"Deleted: {item['Deleted']}" if item.get("Deleted") else f"Untagged: {item['Untagged']}"
            )
    if problems:
        output.error("\n".join(problems))
    return 1 if problems and (fatal or not force) else 0


def _prune(invocation: Invocation) -> int:
    options = invocation.options
    every = options.on("all")
    warning = (
        "WARNING! This will remove all images without at least one container associated to them."
        if every
        else "WARNING! This will remove all dangling images."
    )
    if not options.on("force") and not output.confirm(f"{warning}\nAre you sure you want to continue?"):
        return 0
    filters = encode_filters(options.each("filter"), {"dangling": "false" if every else "true"})
    answer = invocation.client.call("POST", "/images/prune", {"filters": filters}).json()
    if deleted := answer.get("ImagesDeleted"):
        output.line("Deleted Images:")
        for item in deleted:
            output.line(
                f"untagged: {item['Untagged']}" if item.get("Untagged") else f"deleted: {item['Deleted']}"
            )
        output.line("")
    output.line(f"Total reclaimed space: {units.decimal_size(answer.get('SpaceReclaimed') or 0)}")
    return 0


IMAGES = Command(
    _images,
    "[OPTIONS] [REPOSITORY[:TAG]]",
    (0, 1),
    (
        Flag("all", "bool", "Show all images (default hides intermediate images)", short="a"),
        Flag("digests", "bool", "Show digests"),
        Flag("filter", "filter", "Filter output based on conditions provided", short="f"),
        formats.TABLE_FORMAT,
        Flag("no-trunc", "bool", "Don't truncate output"),
        Flag("quiet", "bool", "Only show image IDs", short="q"),
    ),
    completes="images",
)
HISTORY = Command(
    _history,
    "[OPTIONS] IMAGE",
    (1, 1),
    (
        formats.TABLE_FORMAT,
        Flag("human", "bool", "Print sizes and dates in human readable format", short="H", default=True),
        Flag("no-trunc", "bool", "Don't truncate output"),
        Flag("platform", "string", "Show history for the given platform"),
        Flag("quiet", "bool", "Only show image IDs", short="q"),
    ),
    completes="images",
)
TAG = Command(_tag, "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", (2, 2), completes="images")
REMOVE = Command(
    _remove,
    "[OPTIONS] IMAGE [IMAGE...]",
    (1, None),
    (
        Flag("force", "bool", "Force removal of the image", short="f"),
        Flag("no-prune", "bool", "Do not delete untagged parents"),
    ),
    completes="images",
)
PRUNE = Command(
    _prune,
    "[OPTIONS]",
    (0, 0),
    (
        Flag("all", "bool", "Remove all unused images, not just dangling ones", short="a"),
        Flag("filter", "filter", 'Provide filter values (e.g. "until=<timestamp>")'),
        Flag("force", "bool", "Do not prompt for confirmation", short="f"),
    ),
)
