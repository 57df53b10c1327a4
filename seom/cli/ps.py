"""ps: the list of containers."""

from __future__ import annotations

from seom.cli import formats, output, units
from seom.cli.cells import labels_text, shorten
from seom.cli.commands import Command, Invocation
from seom.cli.filters import encode_filters
from seom.cli.flags import Flag
from seom.cli.formats import Columns
from seom.cli.ports import describe_ports
from seom.cli.timestamps import ago, local_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_COMMAND_WIDTH = 20
_SHORT_ID = 12


def _names(container: dict[str, Any], truncate: bool) -> str:
    names = [name.removeprefix("/") for name in container.get("Names") or ()]
    return ",".join(name for name in names if "/" not in name) if truncate else ",".join(names)


def _image(container: dict[str, Any], truncate: bool) -> str:
    image = container.get("Image") or "<no image>"
    if not truncate:
        return str(image)
    if image == container.get("ImageID"):
        return str(image).removeprefix("sha256:")[:_SHORT_ID]
    name, at, _ = image.partition("@")
    return name if at and ":" in name.rpartition("/")[2] else str(image)


def _size(container: dict[str, Any]) -> str:
    own = units.decimal_size(container.get("SizeRw") or 0, 3)
    whole = container.get("SizeRootFs") or 0
    return f"{own} (virtual {units.decimal_size(whole, 3)})" if whole > 0 else own


def _mounts(container: dict[str, Any], truncate: bool) -> str:
    names = [mount.get("Name") or mount.get("Source") or "" for mount in container.get("Mounts") or ()]
    return ",".join(shorten(name, 15) if truncate else name for name in names)


def _command(container: dict[str, Any], truncate: bool) -> str:
    from seom.cli import jsontext

    text = container.get("Command") or ""
    return jsontext.encode(shorten(text, _COMMAND_WIDTH) if truncate else text)


def _platform(container: dict[str, Any]) -> dict[str, str] | None:
    platform = (container.get("ImageManifestDescriptor") or {}).get("platform")
    return platform if isinstance(platform, dict) else None


def columns(truncate: bool) -> Columns:
    """What --format can name."""
    table: dict[str, tuple[str, Callable[[Any], Any]]] = {
        "ID": ("CONTAINER ID", lambda c: c["Id"][:_SHORT_ID] if truncate else c["Id"]),
        "Image": ("IMAGE", lambda c: _image(c, truncate)),
        "Command": ("COMMAND", lambda c: _command(c, truncate)),
        "CreatedAt": ("CREATED AT", lambda c: local_text(c["Created"])),
        "RunningFor": ("CREATED", lambda c: ago(c["Created"])),
        "State": ("STATE", lambda c: c.get("State", "")),
        "Status": ("STATUS", lambda c: c.get("Status", "")),
        "Ports": ("PORTS", lambda c: describe_ports(c.get("Ports") or [])),
        "Names": ("NAMES", lambda c: _names(c, truncate)),
        "Size": ("SIZE", _size),
        "Labels": ("LABELS", lambda c: labels_text(c.get("Labels"))),
        "Mounts": ("MOUNTS", lambda c: _mounts(c, truncate)),
        "LocalVolumes": (
            "LOCAL VOLUMES",
            lambda c: str(sum(mount.get("Driver") == "local" for mount in c.get("Mounts") or ())),
        ),
        "Networks": (
            "NETWORKS",
            lambda c: ",".join(sorted((c.get("NetworkSettings") or {}).get("Networks") or {})),
        ),
        "Platform": ("PLATFORM", _platform),
        "Label": ("LABELS", lambda c: lambda name: (c.get("Labels") or {}).get(name, "")),
    }
    return Columns(table)


def _ps(invocation: Invocation) -> int:
    options = invocation.options
    last = 1 if options.on("latest") and "last" not in options.changed else options.number("last")
    text = options.text("format")
    wants_size = options.on("size") or ".Size" in text
    parameters: dict[str, object] = {
        "all": options.on("all") or last > 0,
        "limit": last if last > 0 else "",
        "size": wants_size and not options.on("quiet"),
        "filters": encode_filters(options.each("filter")),
    }
    containers = invocation.client.get("/containers/json", parameters)
    truncate = not options.on("no-trunc")
    if options.on("quiet") and not text:
        for container in containers:
            output.line(container["Id"][:_SHORT_ID] if truncate else container["Id"])
        return 0
    default = ["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"]
    if options.on("size"):
        default.append("Size")
    known = columns(truncate)
    known.columns["Label"] = ("LABELS", known.columns["Label"][1])
    formats.show_rows(known, containers, text, default)
    return 0


PS = Command(
    _ps,
    "[OPTIONS]",
    (0, 0),
    (
        Flag("all", "bool", "Show all containers (default shows just running)", short="a"),
        Flag("filter", "filter", "Filter output based on conditions provided", short="f"),
        formats.TABLE_FORMAT,
        Flag("last", "int", "Show n last created containers (includes all states)", short="n", default=-1),
        Flag("latest", "bool", "Show the latest created container (includes all states)", short="l"),
        Flag("no-trunc", "bool", "Don't truncate output"),
        Flag("quiet", "bool", "Only display container IDs", short="q"),
        Flag("size", "bool", "Display total file sizes", short="s"),
    ),
)
