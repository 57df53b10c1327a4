"""Looking at a container: its processes, ports, changed files and logs."""

from __future__ import annotations

from seom.cli import output, timestamps
from seom.cli.commands import Command, Invocation
from seom.cli.errors import CommandError
from seom.cli.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CHANGES = {0: "C", 1: "A", 2: "D"}


def _top(invocation: Invocation) -> int:
    container, *arguments = invocation.arguments
    parameters: dict[str, object] = {"ps_args": " ".join(arguments)}
    answer = invocation.client.get(f"/containers/{container}/top", parameters)
    output.write(_process_table([answer["Titles"], *answer["Processes"]]))
    return 0


def _process_table(rows: list[list[str]]) -> str:
    """Columns at least 20 wide, as `top` has always shown them."""
    widths = [max(20, *(len(row[index]) + 3 for row in rows)) for index in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("".join([*cells, row[len(widths)]]))
    return "\n".join(lines) + "\n"


def _port(invocation: Invocation) -> int:
    container, *wanted = invocation.arguments
    document = invocation.client.get(f"/containers/{container}/json")
    ports: dict[str, list[dict[str, str]] | None] = document["NetworkSettings"].get("Ports") or {}
    if wanted:
        name = wanted[0] if "/" in wanted[0] else f"{wanted[0]}/tcp"
        if not ports.get(name):
            raise CommandError(f"Error: No public port '{wanted[0]}' published for {container}")
        lines = [_address(binding) for binding in ports[name] or ()]
    else:
        lines = [
            f"{name} -> {_address(binding)}"
            for name in sorted(ports, key=lambda name: (int(name.partition("/")[0]), name))
            for binding in ports[name] or ()
        ]
    for line in lines:
        output.line(line)
    return 0


def _address(binding: dict[str, str]) -> str:
    address = binding.get("HostIp", "")
    return f"[{address}]:{binding['HostPort']}" if ":" in address else f"{address}:{binding['HostPort']}"


def _diff(invocation: Invocation) -> int:
    name = invocation.arguments[0]
    if not name:
        raise CommandError("Container name cannot be empty")
    changes: list[dict[str, Any]] = invocation.client.get(f"/containers/{name}/changes") or []
    for change in changes:
        output.line(f"{_CHANGES.get(change['Kind'], '?')} {change['Path']}")
    return 0


def _logs(invocation: Invocation) -> int:
    from seom.cli.streams import Demultiplexer

    client, options = invocation.client, invocation.options
    name = invocation.arguments[0]
    container = client.get(f"/containers/{name}/json")
    parameters: dict[str, object] = {
        "stdout": True,
        "stderr": True,
        "follow": options.on("follow"),
        "timestamps": options.on("timestamps"),
        "details": options.on("details"),
        "tail": options.text("tail"),
        "since": timestamps.to_api(options.text("since")),
        "until": timestamps.to_api(options.text("until")),
    }
    response = client.call("GET", f"/containers/{container['Id']}/logs", parameters)
    receive = output.write_bytes if container["Config"]["Tty"] else Demultiplexer().feed
    for piece in response.pieces():
        receive(piece)
    return 0


TOP = Command(_top, "CONTAINER [ps OPTIONS]", (1, None), interspersed=False, completes="running")
PORT = Command(_port, "CONTAINER [PRIVATE_PORT[/PROTO]]", (1, 2), completes="running")
DIFF = Command(_diff, "CONTAINER", (1, 1), completes="containers")
LOGS = Command(
    _logs,
    "[OPTIONS] CONTAINER",
    (1, 1),
    (
        Flag("details", "bool", "Show extra details provided to logs"),
        Flag("follow", "bool", "Follow log output", short="f"),
        Flag(
            "since",
            "string",
            'Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)',
        ),
        Flag("tail", "string", "Number of lines to show from the end of the logs", short="n", default="all"),
        Flag("timestamps", "bool", "Show timestamps", short="t"),
        Flag(
            "until",
            "string",
            'Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m")',
        ),
    ),
    completes="containers",
)
