"""/containers: everything but streams (see attach), files (see archive) and exec."""

from __future__ import annotations

from contextlib import suppress

import msgspec
from aiohttp import web

from seom.api import container_json
from seom.api.container_list import FILTERS, select
from seom.api.disk_usage import container_bytes
from seom.api.json_body import json_response, read_json
from seom.api.query import flag, number, optional_seconds
from seom.containers.config import CreateRequest
from seom.engine.container import Container, Status
from seom.engine.engine import Engine
from seom.engine.filters import parse_filters
from seom.engine.resources import UpdateRequest
from seom.errors import InvalidParameter, NotFound


def routes(engine: Engine) -> list[web.RouteDef]:
    """The handlers of this module."""
    handlers = ContainerHandlers(engine)
    one = "/containers/{id}"
    return [
        web.get("/containers/json", handlers.list, allow_head=False),
        web.post("/containers/create", handlers.create),
        web.post("/containers/prune", handlers.prune),
        web.get(f"{one}/json", handlers.inspect, allow_head=False),
        web.post(f"{one}/start", handlers.start),
        web.post(f"{one}/stop", handlers.stop),
        web.post(f"{one}/restart", handlers.restart),
        web.post(f"{one}/kill", handlers.kill),
        web.post(f"{one}/pause", handlers.pause),
        web.post(f"{one}/unpause", handlers.unpause),
        web.post(f"{one}/rename", handlers.rename),
        web.post(f"{one}/update", handlers.update),
        web.post(f"{one}/wait", handlers.wait),
        web.post(f"{one}/resize", handlers.resize),
        web.get(f"{one}/top", handlers.top, allow_head=False),
        web.delete(one, handlers.remove),
    ]


class ContainerHandlers:
    """Decode, call the engine, encode."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def _container(self, request: web.Request) -> Container:
        return self._engine.containers.get(request.match_info["id"])

    async def list(self, request: web.Request) -> web.Response:
        filters = parse_filters(request.query.get("filters"), FILTERS)
        found = select(self._engine, filters, flag(request, "all"), number(request, "limit"))
        sizes = {}
        if flag(request, "size"):
            sizes = {container.id: await container_bytes(self._engine, container) for container in found}
        return json_response(
            [container_json.list_row(self._engine, container, sizes.get(container.id)) for container in found]
        )

    async def create(self, request: web.Request) -> web.Response:
        body = await read_json(request, CreateRequest)
        container, warnings = await self._engine.containers.create(
            body, request.query.get("name", ""), request.query.get("platform", "")
        )
        return json_response({"Id": container.id, "Warnings": warnings}, status=201)

    async def inspect(self, request: web.Request) -> web.Response:
        container = self._container(request)
        size = await container_bytes(self._engine, container) if flag(request, "size") else None
        return json_response(container_json.inspect_document(self._engine, container, size))

    async def start(self, request: web.Request) -> web.Response:
        await self._engine.containers.lifecycle.start(self._container(request))
        return web.Response(status=204)

    async def stop(self, request: web.Request) -> web.Response:
        await self._engine.containers.lifecycle.stop(
            self._container(request), optional_seconds(request, "t"), request.query.get("signal", "")
        )
        return web.Response(status=204)

    async def restart(self, request: web.Request) -> web.Response:
        await self._engine.containers.lifecycle.restart(
            self._container(request), optional_seconds(request, "t"), request.query.get("signal", "")
        )
        return web.Response(status=204)

    async def kill(self, request: web.Request) -> web.Response:
        await self._engine.containers.lifecycle.kill(
            self._container(request), request.query.get("signal", "")
        )
        return web.Response(status=204)

    async def pause(self, request: web.Request) -> web.Response:
        await self._engine.containers.lifecycle.pause(self._container(request))
        return web.Response(status=204)

    async def unpause(self, request: web.Request) -> web.Response:
        await self._engine.containers.lifecycle.unpause(self._container(request))
        return web.Response(status=204)

    async def rename(self, request: web.Request) -> web.Response:
        await self._engine.containers.rename(self._container(request), request.query.get("name", ""))
        return web.Response(status=204)

    async def update(self, request: web.Request) -> web.Response:
        body = await read_json(request, UpdateRequest)
        return json_response(
            {"Warnings": await self._engine.containers.update(self._container(request), body) or None}
        )

    async def wait(self, request: web.Request) -> web.StreamResponse:
        """Headers at once, the exit code when there is one: clients start the container in between."""
        container = self._container(request)
        condition = request.query.get("condition") or "not-running"
        if condition not in ("not-running", "next-exit", "removed"):
            raise InvalidParameter(f'invalid condition: "{condition}"')
        seen = container.exits
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if condition == "next-exit":
            await container.wait_until_exit(seen)
        elif condition == "removed":
            await container.wait_until_removed()
        else:
            await container.wait_until_not_running()
        # No "Error": who started the container was told why it did not start.
        with suppress(ConnectionResetError):  # the client need not have waited
            await response.write(msgspec.json.encode({"StatusCode": container.state.exit_code}))
            await response.write_eof()
        return response

    async def resize(self, request: web.Request) -> web.Response:
        container = self._container(request)
        rows, columns = number(request, "h"), number(request, "w")
        if container.workload is None:
            raise InvalidParameter(f"container {container.id} is not running")
        await container.workload.resize(rows, columns)
        return web.Response()

    async def top(self, request: web.Request) -> web.Response:
        container = self._container(request)
        titles, processes = await self._engine.containers.top(
            container, request.query.get("ps_args") or "-ef"
        )
        return json_response({"Titles": titles, "Processes": processes})

    async def remove(self, request: web.Request) -> web.Response:
        if flag(request, "link"):
            raise NotFound(
                "links between containers are names on a network; disconnect the container instead"
            )
        await self._engine.containers.remove(
            self._container(request), force=flag(request, "force"), volumes=flag(request, "v")
        )
        return web.Response(status=204)

    async def prune(self, request: web.Request) -> web.Response:
        filters = parse_filters(request.query.get("filters"), {"until", "label", "label!"})
        deleted, reclaimed = [], 0
        for container in select(self._engine, filters, all=True, limit=0):
            if container.state.status in (Status.EXITED, Status.CREATED, Status.DEAD):
                reclaimed += (await container_bytes(self._engine, container))[0]
                await self._engine.containers.remove(container)
                deleted.append(container.id)
        return json_response({"ContainersDeleted": deleted or None, "SpaceReclaimed": reclaimed})
