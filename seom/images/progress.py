"""Progress of a pull, push or load, as the JSON lines that docker clients understand.

One line is one Message. A client keeps one row per id and redraws it when another Message with
that id comes; a Message without an id is a line of its own; one with an error ends the stream.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

BAR_WIDTH = 50
_SIZE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


class ProgressDetail(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far one row is, in bytes; total 0 means unknown."""

    current: int = 0
    total: int = 0


class ErrorDetail(msgspec.Struct, frozen=True, omit_defaults=True):
    message: str
    code: int = 0


class PushResult(msgspec.Struct, frozen=True, rename="pascal"):
    """What a push tells programs: the manifest that the tag now points to, size in bytes."""

    tag: str
    digest: str
    size: int


class Message(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One line of the stream."""

    status: str = ""
    progress_detail: ProgressDetail | None = None
    progress: str = ""
    id: str = ""
    stream: str = ""
    error_detail: ErrorDetail | None = None
    error: str = ""
    aux: msgspec.Struct | None = None


Report = Callable[[Message], None]
"""Takes one Message; must neither block nor raise."""


def encode(message: Message) -> bytes:
    """The line on the wire."""
    return msgspec.json.encode(message) + b"\r\n"


def status(text: str, id: str = "") -> Message:
    """A line, or the row of id, without numbers."""
    return Message(status=text, id=id)


def step(id: str, text: str) -> Message:
    """The row of id enters a new state (Pulling fs layer, Download complete ...)."""
    return Message(status=text, id=id, progress_detail=ProgressDetail())


def advance(id: str, text: str, current: int, total: int) -> Message:
    """The row of id has done current of total bytes."""
    return Message(
        status=text,
        id=id,
        progress_detail=ProgressDetail(current, total),
        progress=progress_bar(current, total),
    )


def failure(text: str, code: int = 0) -> Message:
    """The last line of a stream that failed after it began."""
    return Message(error=text, error_detail=ErrorDetail(text, code))


def progress_bar(current: int, total: int) -> str:
    """The drawn bar that docker sends beside the numbers: ``[==>   ]  1.5MB/3MB``."""
    if current <= 0 and total <= 0:
        return ""
    if total <= 0 or current > total:
        return f"{human_size(current):>8}"
    done = int(current / total * 100) // 2
    bar = "=" * done + ">" + " " * (BAR_WIDTH - done)
    return f"[{bar}] {human_size(current):>8}/{human_size(total)}"


def human_size(size_bytes: float) -> str:
    """Bytes in decimal units with four digits, as docker prints them: 1.536MB."""
    unit = 0
    while size_bytes >= 1000 and unit < len(_SIZE_UNITS) - 1:
        size_bytes /= 1000
        unit += 1
    return f"{size_bytes:.4g}{_SIZE_UNITS[unit]}"
