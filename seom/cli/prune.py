"""system prune and system reset."""

from __future__ import annotations

from seom.cli import output, units
from seom.cli.commands import Command, Invocation
from seom.cli.errors import CommandError
from seom.cli.filters import encode_filters
from seom.cli.flags import Flag


def _prune(invocation: Invocation) -> int:
    options = invocation.options
    every, with_volumes = options.on("all"), options.on("volumes")
    filters = options.each("filter")
    if with_volumes and any(item.startswith("until") for item in filters):
        raise CommandError('ERROR: The "until" filter is not supported with "--volumes"')
    if not options.on("force") and not output.confirm(_warning(every, with_volumes, filters)):
        return 0
    reclaimed = _post(
        invocation, "containers", "Deleted Containers:", "ContainersDeleted", encode_filters(filters)
    )
    reclaimed += _post(
        invocation, "networks", "Deleted Networks:", "NetworksDeleted", encode_filters(filters)
    )
    if with_volumes:
        reclaimed += _post(
            invocation, "volumes", "Deleted Volumes:", "VolumesDeleted", encode_filters(filters)
        )
    image_filters = encode_filters(filters, {"dangling": "false" if every else "true"})
    reclaimed += _post(invocation, "images", "Deleted Images:", "ImagesDeleted", image_filters)
    reclaimed += _post(
        invocation,
        "build",
        "Deleted build cache objects:",
        "CachesDeleted",
        encode_filters(filters),
        every=every,
    )
    output.line(f"Total reclaimed space: {units.decimal_size(reclaimed)}")
    return 0


def _warning(every: bool, with_volumes: bool, filters: list[str]) -> str:
    lines = [
        "  - all stopped containers",
        "  - all networks not used by at least one container",
        *(["  - all anonymous volumes not used by at least one container"] if with_volumes else []),
        "  - all images without at least one container associated to them"
        if every
        else "  - all dangling images",
        "  - unused build cache",
    ]
    text = "WARNING! This will remove:\n" + "\n".join(lines) + "\n\n"
    if filters:
        text += (
            "  Items to be pruned will be filtered with:\n"
            + "".join(f"  - {item}\n" for item in filters)
            + "\n"
        )
    return text + "Are you sure you want to continue?"


def _post(
    invocation: Invocation, noun: str, heading: str, key: str, filters: str, every: bool = False
) -> int:
    answer = invocation.client.call("POST", f"/{noun}/prune", {"all": every, "filters": filters}).json()
    if deleted := answer.get(key):
        output.line(heading)
        for item in deleted:
            if isinstance(item, dict):
                item = (
                    f"untagged: {item['Untagged']}" if item.get("Untagged") else f"deleted: {item['Deleted']}"
                )
            output.line(item)
        output.line("")
    return int(answer.get("SpaceReclaimed") or 0)


def _reset(invocation: Invocation) -> int:
    warning = (
        f"WARNING! This stops and removes EVERYTHING of the daemon at {invocation.client.address}:\n"
        "  - all containers, running or not\n  - all images\n  - all networks\n"
        "  - all volumes with their data\n\n"
        "Are you sure you want to continue?"
    )
    if not invocation.options.on("force") and not output.confirm(warning):
        return 0
    invocation.client.post("/seom/v1/reset")
    output.line("Everything is removed; the daemon goes on as on its first day")
    return 0


PRUNE = Command(
    _prune,
    "[OPTIONS]",
    (0, 0),
    (
        Flag("all", "bool", "Remove all unused images not just dangling ones", short="a"),
        Flag("filter", "filter", 'Provide filter values (e.g. "label=<key>=<value>")'),
        Flag("force", "bool", "Do not prompt for confirmation", short="f"),
        Flag("volumes", "bool", "Prune anonymous volumes"),
    ),
)
RESET = Command(
    _reset,
    "[OPTIONS]",
    (0, 0),
    (Flag("force", "bool", "Do not prompt for confirmation", short="f"),),
)
