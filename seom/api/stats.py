"""GET /containers/{id}/stats: one document, or one a second."""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from seom.api.json_body import json_response
from seom.api.query import flag
from seom.containers.stats import Sample, empty_document, stats_document, take_sample
from seom.engine.container import Container
from seom.engine.engine import Engine

INTERVAL_S = 1.0

SINGLE_INTERVAL_S = 0.2
"""Between the two samples of a single document: long enough for a rate, short for who waits."""


def routes(engine: Engine) -> list[web.RouteDef]:
    """The handlers of this module."""
    handlers = StatsHandlers(engine)
    return [web.get("/containers/{id}/stats", handlers.stats, allow_head=False)]


class StatsHandlers:
    """Sampling what a container uses."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def stats(self, request: web.Request) -> web.StreamResponse:
        container = self._engine.containers.get(request.match_info["id"])
        if flag(request, "stream", True):
            return await self._stream(request, container)
        previous = None
        if not flag(request, "one-shot"):
            previous = await self._sample(container)
            if previous is not None:
                await asyncio.sleep(SINGLE_INTERVAL_S)
        return json_response(_document(container, await self._sample(container), previous))

    async def _stream(self, request: web.Request, container: Container) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        previous: Sample | None = None
        while not container.removed:
            sample = await self._sample(container)
            document = _document(container, sample, previous)
            await response.write(msgspec.json.encode(document) + b"\n")
            previous = sample
            await asyncio.sleep(INTERVAL_S)
        await response.write_eof()
        return response

    async def _sample(self, container: Container) -> Sample | None:
        """The counters now, or None when the container does not run."""
        if not container.running:
            return None
        cgroup = self._engine.containers.cgroup(container)
        try:
            return await asyncio.to_thread(
                take_sample, cgroup, container.state.pid, container.host.network_mode != "host"
            )
        except OSError:
            return None


def _document(container: Container, sample: Sample | None, previous: Sample | None) -> object:
    if sample is None:
        return empty_document(container.id, container.name)
    return stats_document(container.id, container.name, sample, previous)
