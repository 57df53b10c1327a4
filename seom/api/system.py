"""The daemon as a whole: ping, version, info, events; and what a daemon outside a swarm answers."""

from __future__ import annotations

import time

import msgspec
from aiohttp import web

from seom.api import API_VERSION, MIN_API_VERSION
from seom.api.json_body import json_response
from seom.engine.engine import Engine
from seom.engine.events import EventBus
from seom.engine.filters import parse_filters
from seom.engine.system import Counts, info_document, version_document
from seom.engine.timestamps import parse_timestamp
from seom.errors import InvalidParameter, NotFound, Unavailable

NOT_A_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node '
    "to swarm and try again."
)
NOT_IN_A_SWARM = "This node is not part of a swarm"
SWARM_PATHS = ("/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs")


def routes(engine: Engine) -> list[web.RouteDef]:
    """The system endpoints of one engine."""

    async def events(request: web.Request) -> web.StreamResponse:
        return await stream_events(engine.events, request)

    async def version(request: web.Request) -> web.Response:
        return json_response(version_document(API_VERSION, MIN_API_VERSION))

    async def info(request: web.Request) -> web.Response:
        settings = engine.settings
        document = info_document(
            settings.data_root, count(engine), engine.events.listeners, settings.insecure_registries
        )
        return json_response(document)

    return [
        web.get("/_ping", ping),
        web.get("/events", events),
        web.get("/version", version),
        web.get("/info", info),
        web.get("/plugins", no_plugins),
        web.get("/plugins/{name:.+}/json", no_such_plugin),
        web.post("/swarm/leave", not_in_a_swarm),
        web.put("/volumes/{name}", not_a_manager),
        *(web.get(path, not_a_manager) for path in SWARM_PATHS),
        *(web.route("*", path + "/{rest:.+}", not_a_manager) for path in SWARM_PATHS),
    ]


def count(engine: Engine) -> Counts:
    """How many images there are, and containers in which state."""
    states = [container.state.status for container in engine.containers.all()]
    running = sum(state in ("running", "restarting") for state in states)
    paused = sum(state == "paused" for state in states)
    stopped = len(states) - running - paused
    return Counts(running, paused, stopped, images=len(engine.images.store.all()))


async def ping(request: web.Request) -> web.Response:
    """GET and HEAD /_ping: that the daemon is there, and in its headers what it can do."""
    headers = {
        "Builder-Version": "1",
        "Cache-Control": "no-cache, no-store, must-revalidate",
        "Pragma": "no-cache",
        "Swarm": "inactive",
    }
    return web.Response(text="OK", headers=headers)


async def no_plugins(request: web.Request) -> web.Response:
    """GET /plugins."""
    return json_response([])


async def no_such_plugin(request: web.Request) -> web.Response:
    """GET /plugins/{name}/json."""
    raise NotFound(f'plugin "{request.match_info["name"]}" not found')


async def not_a_manager(request: web.Request) -> web.Response:
    """Everything about a swarm."""
    raise Unavailable(NOT_A_MANAGER)


async def not_in_a_swarm(request: web.Request) -> web.Response:
    """POST /swarm/leave."""
    raise Unavailable(NOT_IN_A_SWARM)


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
