"""What a build shows: all of its output, or on a terminal one line a step with the last output below.

    [2/5] COPY . /src                                       cached
    [3/5] RUN make                                            4.2s
      | cc -c main.c

When a step fails, everything it printed is shown.
"""

from __future__ import annotations

import os
import re
import time

from seom.cli import output
from seom.cli.errors import CommandError
from seom.cli.progress import Display

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_STEP = re.compile(r"Step (\d+)/(\d+) : (.*)", re.DOTALL)
_NOISE = re.compile(r" ---> (Running in |Removed intermediate container )?[0-9a-f]{12}\n")
_CACHED = " ---> Using cache\n"
_TAIL_LINES = 5
_CLEAR_TO_END = "\x1b[J"


def display_for(kind: str, *, quiet: bool) -> Plain:
    """The display for --progress (auto, plain, tty). Raises CommandError for another kind."""
    if kind not in ("auto", "plain", "tty"):
        raise CommandError(f'invalid progress "{kind}": choose auto, plain or tty')
    if quiet:
        return Quiet()
    return Steps() if kind == "tty" or (kind == "auto" and os.isatty(1)) else Plain()


class Plain:
    """Everything as it comes."""

    def __init__(self) -> None:
        self._display = Display(1)

    def take(self, message: dict[str, Any]) -> None:
        """Show one message."""
        self._display.show([message])

    def fail(self) -> None:
        """The build has failed; the caller says why."""

    def end(self) -> None:
        """The build is complete."""


class Quiet(Plain):
    """Nothing, unless the build fails."""

    def __init__(self) -> None:
        self._kept: list[str] = []

    def take(self, message: dict[str, Any]) -> None:
        self._kept.append(str(message.get("stream", "")))

    def fail(self) -> None:
        output.write("".join(self._kept))


class Steps(Plain):
    """One line a step, redrawn while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self._columns = (os.get_terminal_size(1).columns if os.isatty(1) else 0) or 80
        self._title = ""
        self._begun = 0.0
        self._cached = False
        self._log = ""
        self._drawn = 0

    def take(self, message: dict[str, Any]) -> None:
        text = str(message.get("stream", ""))
        if not text:
            self._erase()
            super().take(message)
        elif step := _STEP.match(text):
            self._settle()
            number, total, words = step.groups()
            self._title = f"[{number}/{total}] {' '.join(words.split())}"
            self._begun, self._cached, self._log = time.monotonic(), False, ""
            self._draw()
        elif text == _CACHED:
            self._cached = True
        elif text.startswith("Successfully "):
            self._settle()
            output.write(text)
        elif not _NOISE.fullmatch(text):
            self._log += text
            self._draw()

    def fail(self) -> None:
        self._erase()
        output.write(f"{self._title}\n{self._log}")

    def end(self) -> None:
        self._settle()

    def _settle(self) -> None:
        """The step is done: its line stays."""
        if self._title:
            self._erase()
            took = "cached" if self._cached else f"{time.monotonic() - self._begun:.1f}s"
            width = self._columns - len(took) - 2
            output.line(f"{self._title[:width]:{width}} {took}")
            self._title = ""

    def _draw(self) -> None:
        tail = self._log.splitlines()[-_TAIL_LINES:]
        lines = [self._title, *(f"  | {line.rpartition(chr(13))[2]}" for line in tail)]
        self._erase()
        output.write("".join(f"{line[: self._columns - 1]}\n" for line in lines))
        self._drawn = len(lines)

    def _erase(self) -> None:
        if self._drawn:
            output.write(f"\x1b[{self._drawn}A\r{_CLEAR_TO_END}")
        self._drawn = 0
