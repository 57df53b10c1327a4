"""system df: what takes how much room."""

from __future__ import annotations

from seom.cli import formats, images, output, ps, units, volumes
from seom.cli.commands import Command, Invocation
from seom.cli.flags import Flag
from seom.cli.formats import Columns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _summaries(usage: dict[str, Any]) -> list[dict[str, Any]]:
    """Type, total, active, size and reclaimable bytes of images, containers and volumes."""
    image_list, containers = usage.get("Images") or [], usage.get("Containers") or []
    volume_list, caches = (usage.get("Volumes") or []), usage.get("BuildCache") or []
    return [
        _image_summary(usage, image_list),
        _container_summary(containers),
        _volume_summary(volume_list),
        {
            "type": "Build Cache",
            "total": len(caches),
            "active": sum(bool(cache.get("InUse")) for cache in caches),
            "size": sum(cache["Size"] for cache in caches if not cache.get("Shared")),
            "free": sum(c["Size"] for c in caches if not c.get("InUse") and not c.get("Shared")),
            "percent": False,
        },
    ]


def _image_summary(usage: dict[str, Any], found: list[dict[str, Any]]) -> dict[str, Any]:
    total = int(usage.get("LayersSize") or 0)
    used = sum(
        image["Size"] - image["SharedSize"]
        for image in found
        if image.get("Containers", 0) > 0
        and image.get("Size", -1) != -1
        and image.get("SharedSize", -1) != -1
    )
    active = sum(image.get("Containers", 0) > 0 for image in found)
    return {
        "type": "Images",
        "total": len(found),
        "active": active,
        "size": total,
        "free": total - used,
        "percent": True,
    }


def _container_summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    busy = [container for container in found if container.get("State") in ("running", "paused", "restarting")]
    size = sum(container.get("SizeRw") or 0 for container in found)
    used = sum(container.get("SizeRw") or 0 for container in busy)
    return {
        "type": "Containers",
        "total": len(found),
        "active": len(busy),
        "size": size,
        "free": size - used,
        "percent": True,
    }


def _volume_summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    sizes = [(volume.get("UsageData") or {}) for volume in found]
    size = sum(max(0, usage.get("Size", -1)) for usage in sizes)
    used = sum(max(0, usage.get("Size", -1)) for usage in sizes if usage.get("RefCount", 0) > 0)
    return {
        "type": "Local Volumes",
        "total": len(found),
        "active": sum(usage.get("RefCount", 0) > 0 for usage in sizes),
        "size": size,
        "free": size - used,
        "percent": True,
    }


def _reclaimable(row: dict[str, Any]) -> str:
    text = units.decimal_size(row["free"])
    if row["percent"] and row["size"] > 0:
        return f"{text} ({row['free'] * 100 // row['size']}%)"
    return text


_SUMMARY = Columns(
    {
        "Type": ("TYPE", lambda row: row["type"]),
        "TotalCount": ("TOTAL", lambda row: str(row["total"])),
        "Active": ("ACTIVE", lambda row: str(row["active"])),
        "Size": ("SIZE", lambda row: units.decimal_size(row["size"])),
        "Reclaimable": ("RECLAIMABLE", _reclaimable),
    }
)


def _disk_usage(invocation: Invocation) -> int:
    usage = invocation.client.get("/system/df")
    text = invocation.options.text("format")
    if invocation.options.on("verbose") and not text:
        _verbose(usage)
    else:
        formats.show_rows(_SUMMARY, _summaries(usage), text, list(_SUMMARY.columns))
    return 0


def _verbose(usage: dict[str, Any]) -> None:
    image_columns = images.columns(truncate=True)
    entries = list(images.entries(usage.get("Images") or [], digests=False))
    output.line("Images space usage:\n")
    names = ["Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers"]
    formats.show_rows(image_columns, entries, "", names)
    output.line("\nContainers space usage:\n")
    names = ["ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names"]
    containers = [{**container, "SizeRootFs": 0} for container in usage.get("Containers") or ()]
    formats.show_rows(ps.columns(truncate=True), containers, "", names)
    output.line("\nLocal Volumes space usage:\n")
    formats.show_rows(volumes.columns(), usage.get("Volumes") or [], "", ["Name", "Links", "Size"])


DISK_USAGE = Command(
    _disk_usage,
    "[OPTIONS]",
    (0, 0),
    (formats.TABLE_FORMAT, Flag("verbose", "bool", "Show detailed information on space usage", short="v")),
)
