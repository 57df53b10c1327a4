"""The daemon as a whole: events, ping, version, info, disk usage."""

from __future__ import annotations

import time
from typing import Protocol

import msgspec
from aiohttp import web

from seom.engine.events import EventBus
from seom.engine.filters import parse_filters
from seom.engine.timestamps import parse_timestamp
from seom.errors import InvalidParameter


class System(Protocol):
    """What these handlers need of the engine."""

    @property
    def events(self) -> EventBus: ...


def routes(engine: System) -> list[web.RouteDef]:
    """The system endpoints of one engine."""

    async def events(request: web.Request) -> web.StreamResponse:
        return await stream_events(engine.events, request)

    return [web.get("/events", events)]


async def stream_events(bus: EventBus, request: web.Request) -> web.StreamResponse:
    """GET /events: one JSON document per event, past ones first, until ``until`` or the client goes."""
    filters = parse_filters(request.query.get("filters"))
    since_ns, until_ns = (_moment(request.query.get(name)) for name in ("since", "until"))
    if since_ns is not None and until_ns is not None and since_ns > until_ns:
        raise InvalidParameter(
            f"`since` time ({request.query['since']}) cannot be after `until` time ({request.query['until']})"
        )
    if since_ns is None and until_ns is not None and until_ns < time.time_ns():
        since_ns = 0
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    # Subscribed before the headers go out: a client that has them is listening.
    with bus.subscribe(filters, since_ns, until_ns) as live:
        try:
            await response.prepare(request)
            async for event in live:
                await response.write(msgspec.json.encode(event) + b"\n")
            await response.write_eof()
        except ConnectionError:
            pass
    return response


def _moment(text: str | None) -> int | None:
    return parse_timestamp(text) if text else None
