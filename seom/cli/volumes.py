"""volume ls, create, rm, prune."""

from __future__ import annotations

from seom.cli import formats, output, units
from seom.cli.cells import labels_text, natural_order
from seom.cli.commands import Command, Invocation
from seom.cli.errors import DaemonError
from seom.cli.filters import encode_filters
from seom.cli.flags import Flag
from seom.cli.formats import Columns
from seom.cli.request_syntax import to_map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def _usage(volume: dict[str, Any], key: str) -> int:
    return int((volume.get("UsageData") or {}).get(key, -1))


def columns() -> Columns:
    """What --format can name."""
    table: dict[str, tuple[str, Callable[[Any], Any]]] = {
        "Name": ("VOLUME NAME", lambda v: v["Name"]),
        "Driver": ("DRIVER", lambda v: v["Driver"]),
        "Scope": ("SCOPE", lambda v: v.get("Scope", "local")),
        "Mountpoint": ("MOUNTPOINT", lambda v: v.get("Mountpoint", "")),
        "Labels": ("LABELS", lambda v: labels_text(v.get("Labels"))),
        "Links": ("LINKS", lambda v: str(_usage(v, "RefCount")) if _usage(v, "RefCount") >= 0 else "N/A"),
        "Size": (
            "SIZE",
            lambda v: units.decimal_size(_usage(v, "Size")) if _usage(v, "Size") >= 0 else "N/A",
        ),
        "Status": ("STATUS", lambda v: "N/A"),
        "Availability": ("AVAILABILITY", lambda v: "N/A"),
        "Group": ("GROUP", lambda v: "N/A"),
        "Label": ("LABELS", lambda v: lambda name: (v.get("Labels") or {}).get(name, "")),
    }
    return Columns(table)


def _list(invocation: Invocation) -> int:
    options = invocation.options
    answer = invocation.client.get("/volumes", {"filters": encode_filters(options.each("filter"))})
    volumes = sorted(answer.get("Volumes") or (), key=lambda volume: natural_order(volume["Name"]))
    text = options.text("format")
    if options.on("quiet") and not text:
        text = "{{.Name}}"
    formats.show_rows(columns(), volumes, text, ["Driver", "Name"])
    return 0


def _create(invocation: Invocation) -> int:
    options = invocation.options
    request = {
        "Name": invocation.arguments[0] if invocation.arguments else options.text("name"),
        "Driver": options.text("driver"),
        "DriverOpts": to_map(options.each("opt")),
        "Labels": to_map(options.each("label")),
    }
    output.line(invocation.client.call("POST", "/volumes/create", body=request).json()["Name"])
    return 0


def _remove(invocation: Invocation) -> int:
    status = 0
    for name in invocation.arguments:
        try:
            invocation.client.delete(f"/volumes/{name}", {"force": invocation.options.on("force")})
            output.line(name)
        except DaemonError as error:
            output.error(error.message)
            status = 1
    return status


def _prune(invocation: Invocation) -> int:
    options = invocation.options
    every = options.on("all")
    what = "all local volumes" if every else "anonymous local volumes"
    warning = f"WARNING! This will remove {what} not used by at least one container."
    if not options.on("force") and not output.confirm(f"{warning}\nAre you sure you want to continue?"):
        return 0
    filters = encode_filters(options.each("filter"), {"all": "true"} if every else None)
    answer = invocation.client.call("POST", "/volumes/prune", {"filters": filters}).json()
    if deleted := answer.get("VolumesDeleted"):
        output.line("Deleted Volumes:\n" + "\n".join(deleted) + "\n")
    output.line(f"Total reclaimed space: {units.decimal_size(answer.get('SpaceReclaimed') or 0)}")
    return 0


LIST = Command(
    _list,
    "[OPTIONS]",
    (0, 0),
    (
        Flag("filter", "filter", 'Provide filter values (e.g. "dangling=true")', short="f"),
        formats.TABLE_FORMAT,
        Flag("quiet", "bool", "Only display volume names", short="q"),
    ),
)
CREATE = Command(
    _create,
    "[OPTIONS] [VOLUME]",
    (0, 1),
    (
        Flag("driver", "string", "Specify volume driver name", short="d", default="local"),
        Flag("label", "list", "Set metadata for a volume"),
        Flag("name", "string", "Specify volume name", hidden=True),
        Flag("opt", "map", "Set driver specific options", short="o"),
    ),
)
REMOVE = Command(
    _remove,
    "[OPTIONS] VOLUME [VOLUME...]",
    (1, None),
    (Flag("force", "bool", "Force the removal of one or more volumes", short="f"),),
    completes="volumes",
)
PRUNE = Command(
    _prune,
    "[OPTIONS]",
    (0, 0),
    (
        Flag("all", "bool", "Remove all unused volumes, not just anonymous ones", short="a"),
        Flag("filter", "filter", 'Provide filter values (e.g. "label=<label>")'),
        Flag("force", "bool", "Do not prompt for confirmation", short="f"),
    ),
)
