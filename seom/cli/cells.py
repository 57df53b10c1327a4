"""What goes into single cells of a listing, and the order of its rows."""

from __future__ import annotations


def shorten(text: str, width: int) -> str:
    """At most width characters, the last of them an ellipsis when something is left out."""
    return text if len(text) <= width else text[: width - 1] + "…"


def labels_text(labels: dict[str, str] | None) -> str:
    """ "a=1,b=2"."""
    return ",".join(f"{name}={value}" for name, value in sorted((labels or {}).items()))


def natural_order(text: str) -> list[tuple[bool, int, str]]:
    """Sorts net2 before net10."""
    parts: list[tuple[bool, int, str]] = []
    index = 0
    while index < len(text):
        end = index
        while end < len(text) and text[end].isdigit() == text[index].isdigit():
            end += 1
        word = text[index:end]
        parts.append((True, 0, word) if not word.isdigit() else (False, int(word), word))
        index = end
    return parts
