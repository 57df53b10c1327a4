"""Query parameters, as forgiving as Docker's daemon is about them."""

from __future__ import annotations

from aiohttp import web

from seom.errors import InvalidParameter

ASKED_VERSION = web.RequestKey("asked_version", tuple)
"""The API version that a request's path names, as (major, minor); absent when it names none."""


def asked_before(request: web.Request, major: int, minor: int) -> bool:
    """Whether the client speaks an API older than this version, and expects what was usual then."""
    asked: tuple[int, int] | None = request.get(ASKED_VERSION)
    return asked is not None and asked < (major, minor)


def flag(request: web.Request, name: str, default: bool = False) -> bool:
    """A boolean: anything but empty, 0, no, false and none is true."""
    value = request.query.get(name)
    if value is None:
        return default
    return value.strip().lower() not in ("", "0", "no", "false", "none")


def number(request: web.Request, name: str, default: int = 0) -> int:
    """A whole number; raises InvalidParameter for anything else."""
    value = request.query.get(name, "")
    if not value:
        return default
    try:
        return int(value)
    except ValueError as error:
        raise InvalidParameter(f'invalid value for {name}: "{value}" is not a whole number') from error


def optional_seconds(request: web.Request, name: str) -> float | None:
    """Seconds, or None when not given; raises InvalidParameter."""
    return float(number(request, name)) if request.query.get(name) else None
