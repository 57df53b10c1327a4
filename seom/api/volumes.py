"""Volumes: create, list, inspect, remove, prune."""

from __future__ import annotations

import msgspec
from aiohttp import web

from seom.api.json_body import json_response, read_json
from seom.api.query import asked_before, flag
from seom.engine.engine import Engine
from seom.engine.filters import parse_filters


class VolumeRequest(msgspec.Struct, rename="pascal"):
    """The body of POST /volumes/create."""

    name: str | None = None
    driver: str | None = None
    driver_opts: dict[str, str] | None = None
    labels: dict[str, str] | None = None


def routes(engine: Engine) -> list[web.RouteDef]:
    """The volume endpoints of one engine."""
    volumes = engine.volumes

    async def create(request: web.Request) -> web.Response:
        body = await read_json(request, VolumeRequest, required=False)
        volume = await volumes.create(body.name or "", body.driver or "", body.driver_opts, body.labels)
        return json_response(volume.inspect(), status=201)

    async def list_all(request: web.Request) -> web.Response:
        found = volumes.select(parse_filters(request.query.get("filters")))
        return json_response({"Volumes": [volume.inspect() for volume in found], "Warnings": None})

    async def inspect(request: web.Request) -> web.Response:
        return json_response(volumes.get(request.match_info["name"]).inspect())

    async def remove(request: web.Request) -> web.Response:
        await volumes.remove(request.match_info["name"], force=flag(request, "force"))
        return web.Response(status=204)

    async def prune(request: web.Request) -> web.Response:
        filters = parse_filters(request.query.get("filters"))
        # Clients of that time know no anonymous volumes: they mean all that nobody uses.
        everything = asked_before(request, 1, 42)
        removed, freed_bytes = await volumes.prune(filters, everything)
        return json_response({"VolumesDeleted": removed, "SpaceReclaimed": freed_bytes})

    return [
        web.post("/volumes/create", create),
        web.post("/volumes/prune", prune),
        web.get("/volumes", list_all),
        web.get("/volumes/{name}", inspect),
        web.delete("/volumes/{name}", remove),
    ]
