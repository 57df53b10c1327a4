"""Durations as Go writes them: 30s, 1m30s, 1.5h, 100ms."""

from __future__ import annotations

import re

from seom.build.dockerfile.errors import DockerfileError

_UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_LONGEST_NS = (1 << 63) - 1
_PART = re.compile(r"([0-9]{1,20}\.?[0-9]{0,20}|\.[0-9]{1,20})(ns|us|µs|ms|s|m|h)")


def parse_duration(text: str) -> int:
    """A duration in nanoseconds; raises DockerfileError with the text of Go's parser."""
    if text == "0":
        return 0
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text.lstrip("+-"):
        missing = re.fullmatch(r"[+-]?[\d.]+", text)
        raise DockerfileError(
            f'time: {"missing unit in" if missing else "invalid"} duration "{text}"',
            hint="write a unit behind the number: 30s, 1m30s, 500ms",
        )
    total_ns = sum(round(float(number) * _UNITS_NS[unit]) for number, unit in parts)
    if total_ns > _LONGEST_NS:
        raise DockerfileError(f'time: invalid duration "{text}"')
    return -total_ns if text.startswith("-") else total_ns
