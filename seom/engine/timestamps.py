"""Moments as clients write them: seconds of the epoch with a fraction, RFC 3339, or how long ago."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from seom.errors import InvalidParameter

_NS = 1_000_000_000
_UNIX = re.compile(r"(-?\d+)(?:\.(\d+))?")
_FRACTION = re.compile(r"\.(\d+)")
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ns|us|ms|s|m|h))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)")
_UNIT_NS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": _NS, "m": 60 * _NS, "h": 3600 * _NS}


def parse_timestamp(text: str) -> int:
    """Nanoseconds since the epoch of ``1700000000.123456789`` or ``2026-11-23T10:00:00.5Z``.

    A duration as Go writes it (``1h30m``) is that long before now; a time without a zone is UTC.
    Raises InvalidParameter for anything else.
    """
    unix = _UNIX.fullmatch(text)
    if unix:
        seconds, fraction = unix.groups(default="")
        return int(seconds) * _NS + _nanoseconds(fraction)
    if _DURATION.fullmatch(text):
        parts = _DURATION_PART.findall(text)
        return time.time_ns() - sum(int(float(number) * _UNIT_NS[unit]) for number, unit in parts)
    try:
        # datetime knows microseconds only: the fraction is added apart.
        moment = datetime.fromisoformat(_FRACTION.sub("", text, count=1))
    except ValueError as error:
        raise InvalidParameter(
            f"invalid time {text!r}: use seconds since 1970 (1700000000.5), "
            "RFC 3339 (2026-11-23T10:00:00Z) or how long ago (1h30m)"
        ) from error
    fraction_found = _FRACTION.search(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * _NS + _nanoseconds(fraction_found.group(1) if fraction_found else "")


def format_timestamp(moment_ns: int) -> str:
    """RFC 3339 in UTC with nanoseconds, as the Engine API writes moments; 0 is the zero time."""
    if moment_ns == 0:
        return "0001-01-01T00:00:00Z"
    seconds, nanoseconds = divmod(moment_ns, _NS)
    fraction = f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + fraction + "Z"


def _nanoseconds(fraction: str) -> int:
    return int(fraction[:9].ljust(9, "0")) if fraction else 0
