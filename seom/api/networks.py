"""Networks: list, create, inspect, remove, prune, connect, disconnect."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec
from aiohttp import web

from seom.api.json_body import json_response
from seom.containers.config import EndpointConfig
from seom.engine.engine import Engine
from seom.engine.filters import parse_filters
from seom.errors import InvalidParameter, NotFound
from seom.network.definition import CreateNetwork

Body = TypeVar("Body")

LIST_FILTERS = ("dangling", "driver", "id", "label", "name", "scope", "type")
PRUNE_FILTERS = ("until", "label", "label!")


class Connect(msgspec.Struct, rename="pascal"):
    """The body of POST /networks/{id}/connect."""

    container: str = ""
    endpoint_config: EndpointConfig | None = None


class Disconnect(msgspec.Struct, rename="pascal"):
    """The body of POST /networks/{id}/disconnect."""

    container: str = ""
    force: bool = False


class Created(msgspec.Struct, rename="pascal"):
    """The answer to POST /networks/create."""

    id: str
    warning: str = ""


def routes(engine: Engine) -> list[web.RouteDef]:
    """The network endpoints of one engine."""
    networks = engine.networks

    async def list_all(request: web.Request) -> web.Response:
        return json_response(networks.listing(parse_filters(request.query.get("filters"), LIST_FILTERS)))

    async def inspect(request: web.Request) -> web.Response:
        return json_response(networks.inspect(request.match_info["id"]))

    async def create(request: web.Request) -> web.Response:
        body = _decode(await request.read(), CreateNetwork)
        return json_response(Created(await networks.create(body)), status=201)

    async def remove(request: web.Request) -> web.Response:
        await networks.remove(request.match_info["id"])
        return web.Response(status=204)

    async def prune(request: web.Request) -> web.Response:
        removed = await networks.prune(parse_filters(request.query.get("filters"), PRUNE_FILTERS))
        return json_response({"NetworksDeleted": removed or None})

    async def connect(request: web.Request) -> web.Response:
        body = _decode(await request.read(), Connect)
        async with _held(engine, body.container):
            await networks.connect(request.match_info["id"], body.container, body.endpoint_config)
        return web.Response(status=200)

    async def disconnect(request: web.Request) -> web.Response:
        body = _decode(await request.read(), Disconnect)
        async with _held(engine, body.container):
            await networks.disconnect(request.match_info["id"], body.container, body.force)
        return web.Response(status=200)

    return [
        web.get("/networks", list_all),
        web.post("/networks/create", create),
        web.post("/networks/prune", prune),
        web.get("/networks/{id}", inspect),
        web.delete("/networks/{id}", remove),
        web.post("/networks/{id}/connect", connect),
        web.post("/networks/{id}/disconnect", disconnect),
    ]


@asynccontextmanager
async def _held(engine: Engine, name: str) -> AsyncIterator[None]:
    """Nobody starts, ends or removes the container meanwhile: its namespace stays what it is."""
    try:
        container = engine.containers.get(name)
    except NotFound:
        yield
        return
    async with container.lock:
        yield


def _decode(body: bytes, kind: type[Body]) -> Body:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"invalid JSON: {error}") from error
