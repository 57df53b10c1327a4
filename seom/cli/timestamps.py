"""Points in time: the API's RFC 3339 texts and Unix seconds, and what users see and type."""

from __future__ import annotations

import time

from seom.cli import units
from seom.cli.errors import CommandError


def parse_timestamp(text: str) -> float:
    """Unix seconds of "2024-05-01T10:20:30.123456789Z" or with "+02:00". Raises ValueError."""
    date, _, clock = text.partition("T")
    year, month, day = (int(part) for part in date.split("-"))
    offset = 0
    if clock.endswith(("Z", "z")):
        clock = clock[:-1]
    elif clock[-6:-5] in ("+", "-") and clock[-3:-2] == ":":
        sign = -1 if clock[-6] == "-" else 1
        offset = sign * (int(clock[-5:-3]) * 3600 + int(clock[-2:]) * 60)
        clock = clock[:-6]
    hours, minutes, seconds = clock.split(":")
    days = _days_from_civil(year, month, day)
    return days * 86400 + int(hours) * 3600 + int(minutes) * 60 + float(seconds) - offset


def _days_from_civil(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 in the Gregorian calendar, years counted from March."""
    year -= month <= 2
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146097 + day_of_era - 719468


def ago(unix_seconds: float) -> str:
    """ "3 hours ago"."""
    return units.human_duration(max(0.0, time.time() - unix_seconds)) + " ago"


def local_text(unix_seconds: float) -> str:
    """ "2024-05-01 12:20:30 +0200 CEST", in the machine's time zone."""
    local = time.localtime(int(unix_seconds))
    return time.strftime("%Y-%m-%d %H:%M:%S %z ", local) + (local.tm_zone or "UTC")


def rfc3339(unix_seconds: float, nanoseconds: int = -1) -> str:
    """ "2024-05-01T12:20:30.000000000+02:00" (the fraction only when nanoseconds is given)."""
    local = time.localtime(int(unix_seconds))
    zone = time.strftime("%z", local)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", local)
    if nanoseconds >= 0:
        text += f".{nanoseconds:09d}"
    return text + ("Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}")


def to_api(text: str) -> str:
    """What --since and --until say as Unix seconds: a duration back from now, a date, or seconds.

    Raises CommandError.
    """
    if not text:
        return ""
    try:
        # "0" is the beginning of time, as for docker, although it is a duration as well.
        if text != "0":
            return f"{time.time() - units.parse_duration(text) / 1e9:.9f}"
    except ValueError:
        pass
    if text.replace(".", "", 1).isdigit():
        return text
    try:
        return f"{_parse_typed(text):.9f}"
    except (ValueError, IndexError):
        raise CommandError(
            f'cannot read the time "{text}": give a duration ("10m", "1h30m"), '
            'a date ("2024-05-01T10:20:30", "2024-05-01T10:20:30Z") or Unix seconds'
        ) from None


def _parse_typed(text: str) -> float:
    """A date that may lack seconds, clock or zone; without a zone it is local time."""
    date, _, clock = text.partition("T")
    zone = ""
    if clock.endswith(("Z", "z")):
        clock, zone = clock[:-1], "Z"
    elif clock[-6:-5] in ("+", "-"):
        clock, zone = clock[:-6], clock[-6:]
    parts = (clock or "0").split(":")
    full = ":".join([*parts, *("00" for _ in range(3 - len(parts)))])
    if zone:
        return parse_timestamp(f"{date}T{full}{zone}")
    naive = parse_timestamp(f"{date}T{full}Z")
    year, month, day = (int(part) for part in date.split("-"))
    hours, minutes, seconds = full.split(":")
    local = (year, month, day, int(hours), int(minutes), int(float(seconds)), 0, 0, -1)
    return time.mktime(local) + naive % 1
