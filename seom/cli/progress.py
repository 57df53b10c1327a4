"""Progress of pull, push, load and import: one live line a layer on a terminal, plain lines otherwise."""

from __future__ import annotations

import os

from seom.cli import output, units
from seom.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_NOISE = frozenset(("Downloading", "Extracting", "Pushing", "Buffering to disk", "Loading layer"))


def bar(current: int, total: int, columns: int) -> str:
    """ "[====>    ]  12.3MB/45.6MB", narrower or without the bar on a narrow terminal."""
    if total <= 0 or current > total:
        return f"{units.decimal_size(current):>8}" if current else ""
    numbers = f"{units.decimal_size(current):>8}/{units.decimal_size(total)}"
    if columns < 110:
        return numbers.strip()
    filled = current * 50 // total
    picture = "=" * filled + (">" if filled < 50 else "") + " " * (49 - filled)
    return f"[{picture}] {numbers}"


class Display:
    """Shows JSON progress messages on a descriptor."""

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        self._live = os.isatty(descriptor)
        self._columns = os.get_terminal_size(descriptor).columns if self._live else 80
        self._lines: dict[str, int] = {}

    def show(self, messages: Iterable[dict[str, Any]]) -> None:
        """Until the messages end. Raises CommandError with the message of an error among them."""
        for message in messages:
            error = message.get("errorDetail") or (
                {"message": message["error"]} if "error" in message else None
            )
            if error:
                raise CommandError(str(error.get("message", error)))
            if "stream" in message:
                self._write(str(message["stream"]))
            elif message.get("status"):
                self._status(message)

    def _status(self, message: dict[str, Any]) -> None:
        identity, status = str(message.get("id", "")), str(message["status"])
        detail = message.get("progressDetail") or {}
        text = f"{identity}: {status}" if identity else status
        if not self._live:
            if not detail.get("current") and status not in _NOISE:
                self._write(text + "\n")
            return
        if detail.get("current"):
            text += " " + bar(int(detail["current"]), int(detail.get("total") or 0), self._columns)
        if not identity:
            self._lines.clear()
            self._write(text + "\n")
        else:
            self._redraw(identity, text)

    def _redraw(self, identity: str, text: str) -> None:
        text = text[: self._columns - 1]
        if identity not in self._lines:
            self._lines[identity] = len(self._lines)
            self._write(f"{text}\n")
            return
        up = len(self._lines) - self._lines[identity]
        self._write(f"\x1b[{up}A\r\x1b[2K{text}\r\x1b[{up}B")

    def _write(self, text: str) -> None:
        output.write_bytes(text.encode("utf-8", "surrogateescape"), self._descriptor)
