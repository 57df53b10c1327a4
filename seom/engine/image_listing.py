"""Which images a list shows: Docker's filters, and the names shown of each image."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from seom.engine.filters import Filters, invalid_filter
from seom.engine.timestamps import parse_timestamp
from seom.images.store import Image, ImageStore
from seom.oci.reference import parse_reference

FILTERS = frozenset({"dangling", "label", "before", "since", "reference", "until"})
PRUNE_FILTERS = frozenset({"dangling", "label", "label!", "until"})
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|m|s|ms|us|µs|ns)")
_NOTHING = re.compile(r"(?!)")
_UNITS_NS = {"h": 3600e9, "m": 60e9, "s": 1e9, "ms": 1e6, "us": 1e3, "µs": 1e3, "ns": 1}


@dataclass(frozen=True, slots=True)
class _Window:
    """Moments between which an image was made, in nanoseconds, both excluded."""

    after_ns: float = float("-inf")
    before_ns: float = float("inf")

    def contains(self, image: Image) -> bool:
        return self.after_ns < image.created_ns < self.before_ns


def list_images(store: ImageStore, filters: Filters, every: bool = False) -> list[Image]:
    """The images to show, newest first, each with the names to show.

    every includes intermediate images: those without a name that others were made from.
    Raises InvalidParameter for unknown filters and values, NotFound for unknown before and since.
    """
    filters.check(FILTERS)
    dangling = filters.flag("dangling", default=False) if "dangling" in filters else None
    window = _window(store, filters)
    patterns = [_pattern(text) for text in filters.values("reference")]
    shown = []
    for image in store.all():
        if not window.contains(image) or not filters.matches_labels(image.config.execution.labels):
            continue
        named = _names_matching(image, patterns) if patterns else image
        nameless = not named.repo_tags and not named.repo_digests
        if patterns and nameless:
            continue
        if dangling is not None and dangling != (not image.repo_tags):
            continue
        if not every and nameless and store.children(image.id):
            continue
        shown.append(named)
    return shown


def prune_filter(filters: Filters) -> tuple[bool, _Accept]:
    """What images/prune asks for: (only dangling ones?, whether an image passes the others)."""
    filters.check(PRUNE_FILTERS)
    until = filters.one("until")
    return filters.flag("dangling", default=True), _Accept(
        filters, parse_until(until) if until else float("inf")
    )


@dataclass(frozen=True, slots=True)
class _Accept:
    filters: Filters
    before_ns: float

    def __call__(self, image: Image) -> bool:
        labels = image.config.execution.labels
        return (
            image.created_ns < self.before_ns
            and self.filters.matches_labels(labels)
            and not self.filters.excludes_labels(labels)
        )


def parse_until(text: str) -> int:
    """Nanoseconds since the epoch of a moment, or of a duration ago (Go's 1h30m)."""
    parts = _DURATION.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return time.time_ns() - int(sum(float(number) * _UNITS_NS[unit] for number, unit in parts))
    return parse_timestamp(text)


def _window(store: ImageStore, filters: Filters) -> _Window:
    window = _Window()
    for name in filters.values("before"):
        window = replace(window, before_ns=min(window.before_ns, store.resolve(name).created_ns))
    for name in filters.values("since"):
        window = replace(window, after_ns=max(window.after_ns, store.resolve(name).created_ns))
    if untils := filters.values("until"):
        if len(untils) > 1:
            raise invalid_filter("until", untils)
        window = replace(window, before_ns=min(window.before_ns, parse_until(untils[0])))
    return window


def _names_matching(image: Image, patterns: Sequence[re.Pattern[str]]) -> Image:
    return replace(
        image,
        repo_tags=[name for name in image.repo_tags if _matches(name, patterns)],
        repo_digests=[name for name in image.repo_digests if _matches(name, patterns)],
    )


def _matches(name: str, patterns: Sequence[re.Pattern[str]]) -> bool:
    reference = parse_reference(name)
    candidates = (reference.familiar, reference.familiar_repository)
    return any(pattern.fullmatch(text) for pattern in patterns for text in candidates)


def _pattern(text: str) -> re.Pattern[str]:
    """Go's path.Match: * and ? match anything but a slash, [a-z] and [^a-z] one character.

    A malformed pattern matches nothing, as with Docker.
    """
    parts = []
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character == "*":
            parts.append("[^/]*")
        elif character == "?":
            parts.append("[^/]")
        elif character == "[":
            end = text.find("]", position + 1)
            if end < 0:
                return _NOTHING
            inside = text[position:end].replace("\\", "\\\\").replace("[", "\\[")
            parts.append(f"[{inside}]")
            position = end + 1
        else:
            position += character == "\\"
            parts.append(re.escape(text[position - 1 : position] if character == "\\" else character))
    try:
        return re.compile("".join(parts))
    except re.error:
        return _NOTHING
