"""stats: what containers use, once or as a display that is redrawn every second."""

from __future__ import annotations

import os
import select

from seom.cli import formats, output, units
from seom.cli.commands import Command, Invocation
from seom.cli.errors import CommandError
from seom.cli.flags import Flag
from seom.cli.formats import Columns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from seom.cli.client import Client, Connection

_REFRESH_MS = 500


def cpu_percent(document: dict[str, Any]) -> float:
    """Percent of one processor since the previous reading."""
    now, before = document.get("cpu_stats") or {}, document.get("precpu_stats") or {}
    used = _total(now) - _total(before)
    passed = float(now.get("system_cpu_usage") or 0) - float(before.get("system_cpu_usage") or 0)
    if used <= 0 or passed <= 0:
        return 0.0
    processors = now.get("online_cpus") or len((now.get("cpu_usage") or {}).get("percpu_usage") or ()) or 1
    return used / passed * float(processors) * 100.0


def _total(stats: dict[str, Any]) -> float:
    return float((stats.get("cpu_usage") or {}).get("total_usage") or 0)


def memory_used(document: dict[str, Any]) -> float:
    """Bytes without the page cache that can be given back."""
    memory = document.get("memory_stats") or {}
    usage, details = float(memory.get("usage") or 0), memory.get("stats") or {}
    cache = details.get("total_inactive_file", details.get("inactive_file", 0))
    return usage - float(cache) if 0 < cache < usage else usage


def network_bytes(document: dict[str, Any]) -> tuple[int, int]:
    """(received, sent) over all interfaces."""
    networks = (document.get("networks") or {}).values()
    return sum(n.get("rx_bytes", 0) for n in networks), sum(n.get("tx_bytes", 0) for n in networks)


def block_bytes(document: dict[str, Any]) -> tuple[int, int]:
    """(read, written) over all block devices."""
    read = written = 0
    for entry in (document.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ():
        letter = str(entry.get("op") or " ")[0].lower()
        read += int(entry["value"]) if letter == "r" else 0
        written += int(entry["value"]) if letter == "w" else 0
    return read, written


def _pair(values: tuple[int, int]) -> str:
    return f"{units.decimal_size(values[0], 3)} / {units.decimal_size(values[1], 3)}"


def _memory_percent(document: dict[str, Any]) -> float:
    limit = float((document.get("memory_stats") or {}).get("limit") or 0)
    return memory_used(document) / limit * 100.0 if limit else 0.0


def columns(truncate: bool) -> Columns:
    """What --format can name; data is {"container": what was asked for, "stats": the document or None}."""

    def known(show: Callable[[dict[str, Any]], str], otherwise: str = "--") -> Callable[[Any], str]:
        return lambda row: show(row["stats"]) if row["stats"] else otherwise

    def identity(row: dict[str, Any]) -> str:
        text = str((row["stats"] or {}).get("id") or row["container"])
        return text[:12] if truncate else text

    def name(row: dict[str, Any]) -> str:
        return str((row["stats"] or {}).get("name") or "").removeprefix("/") or "--"

    def memory(stats: dict[str, Any]) -> str:
        limit = float((stats.get("memory_stats") or {}).get("limit") or 0)
        return f"{units.binary_size(memory_used(stats))} / {units.binary_size(limit)}"

    return Columns(
        {
            "Container": ("CONTAINER", lambda row: row["container"]),
            "ID": ("CONTAINER ID", identity),
            "Name": ("NAME", name),
            "CPUPerc": ("CPU %", known(lambda stats: f"{cpu_percent(stats):.2f}%")),
            "MemUsage": ("MEM USAGE / LIMIT", known(memory, "-- / --")),
            "MemPerc": ("MEM %", known(lambda stats: f"{_memory_percent(stats):.2f}%")),
            "NetIO": ("NET I/O", known(lambda stats: _pair(network_bytes(stats)))),
            "BlockIO": ("BLOCK I/O", known(lambda stats: _pair(block_bytes(stats)))),
            "PIDs": ("PIDS", known(lambda stats: str((stats.get("pids_stats") or {}).get("current") or 0))),
        }
    )


def _names(client: Client, invocation: Invocation) -> list[str]:
    if invocation.arguments:
        return invocation.arguments
    listed = client.get("/containers/json", {"all": invocation.options.on("all")})
    return [container["Id"] for container in listed]


def _stats(invocation: Invocation) -> int:
    client, options = invocation.client, invocation.options
    known = columns(not options.on("no-trunc"))
    text = options.text("format")
    if options.on("no-stream"):
        rows = _readings(client, _names(client, invocation))
        output.write(formats.format_rows(known, rows, text, _default()))
        return 0
    _display(invocation, known, text)
    return 0


def _default() -> list[str]:
    return ["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"]


def _readings(client: Client, names: list[str]) -> list[dict[str, Any]]:
    """One reading of each. The daemon measures for a second: all are asked before any is awaited."""
    connections: list[Connection] = []
    for name in names:
        connection = client.connect()
        connection.begin("GET", f"/containers/{name}/stats?stream=0")
        connections.append(connection)
    rows = []
    for name, connection in zip(names, connections, strict=True):
        document = connection.answer().check().json()
        running = document.get("read", "").startswith("0001") is False
        rows.append({"container": name, "stats": document if running else None})
        connection.close()
    return rows


def _display(invocation: Invocation, known: Columns, text: str) -> None:
    """Redraw until interrupted, or until the containers that were named are gone."""
    client = invocation.client
    live = os.isatty(1)
    while True:
        names = _names(client, invocation)
        try:
            rows = _readings(client, names)
        except CommandError:
            if invocation.arguments:
                raise
            continue
        screen = formats.format_rows(known, rows, text, _default())
        if live:
            lines = "".join(f"{line}\x1b[K\n" for line in screen.splitlines())
            screen = f"\x1b[H{lines}\x1b[J"
        output.write(screen)
        if not names:
            select.poll().poll(_REFRESH_MS)


STATS = Command(
    _stats,
    "[OPTIONS] [CONTAINER...]",
    (0, None),
    (
        Flag("all", "bool", "Show all containers (default shows just running)", short="a"),
        formats.TABLE_FORMAT,
        Flag("no-stream", "bool", "Disable streaming stats and only pull the first result"),
        Flag("no-trunc", "bool", "Do not truncate output"),
    ),
    completes="running",
)
