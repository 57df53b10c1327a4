"""Volumes: create, list, inspect, remove, prune."""

from __future__ import annotations

from typing import Protocol

import msgspec
from aiohttp import web

from seom.engine.filters import parse_filters
from seom.engine.volumes import Volumes

TRUE = frozenset({"1", "true", "True", "TRUE"})


class VolumeEngine(Protocol):
    """What these handlers need of the engine."""

    @property
    def volumes(self) -> Volumes: ...


class VolumeRequest(msgspec.Struct, rename="pascal"):
    """The body of POST /volumes/create."""

    name: str | None = None
    driver: str | None = None
    driver_opts: dict[str, str] | None = None
    labels: dict[str, str] | None = None


def routes(engine: VolumeEngine) -> list[web.RouteDef]:
    """The volume endpoints of one engine."""
    volumes = engine.volumes

    async def create(request: web.Request) -> web.Response:
        body = msgspec.json.decode(await request.read() or b"{}", type=VolumeRequest)
        volume = await volumes.create(body.name or "", body.driver or "", body.driver_opts, body.labels)
        return _json(volume.inspect(), status=201)

    async def list_all(request: web.Request) -> web.Response:
        found = volumes.select(parse_filters(request.query.get("filters")))
        return _json({"Volumes": [volume.inspect() for volume in found], "Warnings": None})

    async def inspect(request: web.Request) -> web.Response:
        return _json(volumes.get(request.match_info["name"]).inspect())

    async def remove(request: web.Request) -> web.Response:
        await volumes.remove(request.match_info["name"], force=request.query.get("force") in TRUE)
        return web.Response(status=204)

    async def prune(request: web.Request) -> web.Response:
        removed, freed_bytes = await volumes.prune(parse_filters(request.query.get("filters")))
        return _json({"VolumesDeleted": removed, "SpaceReclaimed": freed_bytes})

    return [
        web.post("/volumes/create", create),
        web.post("/volumes/prune", prune),
        web.get("/volumes", list_all),
        web.get("/volumes/{name}", inspect),
        web.delete("/volumes/{name}", remove),
    ]


def _json(document: object, status: int = 200) -> web.Response:
    return web.Response(
        status=status, body=msgspec.json.encode(document) + b"\n", content_type="application/json"
    )
