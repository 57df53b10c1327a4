"""Where something stands in a Dockerfile, and what is wrong there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from seom.errors import InvalidParameter

_LINES_AROUND = 2
_RULE = "-" * 20


@dataclass(frozen=True, slots=True)
class Location:
    """Lines of a Dockerfile, counted from 1, the last one included."""

    first: int
    last: int


class DockerfileError(InvalidParameter):
    """A mistake in a Dockerfile. Its text is Docker's; render() shows the lines as well.

    What reads single words knows nothing of lines: it raises without a location, and whoever
    knows the instruction adds it with at().
    """

    def __init__(
        self, message: str, *, location: Location | None = None, source: str = "", hint: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.location = location
        self.source = source
        self.hint = hint

    def at(self, location: Location, source: str) -> DockerfileError:
        """The same mistake with its place in source; a place already known is kept."""
        return DockerfileError(
            self.message,
            location=self.location or location,
            source=self.source or source,
            hint=self.hint,
        )

    def render(self, name: str = "Dockerfile") -> str:
        """The mistake as a compiler shows it: place, excerpt with the lines marked, message, hint."""
        parts = []
        if self.location is not None:
            parts.append(f"{name}:{self.location.first}")
            if self.source:
                parts.append(excerpt(self.source, self.location))
        parts.append(self.message)
        if self.hint:
            parts.append(f"hint: {self.hint}")
        return "\n".join(parts)


def excerpt(source: str, location: Location) -> str:
    """The lines of a location, marked, with a few around them, between two rules."""
    lines = source.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    first = max(1, location.first - _LINES_AROUND)
    last = min(len(lines), location.last + _LINES_AROUND)
    shown = [_RULE]
    for number in range(first, last + 1):
        marker = ">>>" if location.first <= number <= location.last else "   "
        shown.append(f"{number:4} | {marker} {lines[number - 1].rstrip()}".rstrip())
    shown.append(_RULE)
    return "\n".join(shown)


def suggestion(word: str, known: Iterable[str], similarity: float = 0.6) -> str:
    """The phrase " (did you mean X?)" for the known word most like this one; empty if none is.

    similarity is between 0 and 1 (the same but for case).
    """
    by_lower_case = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(word.lower(), by_lower_case, n=1, cutoff=similarity)
    return f" (did you mean {by_lower_case[matches[0]]}?)" if matches else ""
