"""The files of containers: copies in and out, export, changes."""

from __future__ import annotations

import base64
import logging
from collections.abc import AsyncIterator

import msgspec
from aiohttp import web

from seom.api.json_body import json_response
from seom.api.query import flag
from seom.containers.container_path import PathStat
from seom.engine.container import Container
from seom.engine.engine import Engine
from seom.engine.files import Files
from seom.errors import InvalidParameter, SeomError

STAT_HEADER = "X-Docker-Container-Path-Stat"
_CHUNK_BYTES = 1 << 18

log = logging.getLogger(__name__)


def routes(engine: Engine) -> list[web.RouteDef]:
    """The handlers of this module."""
    handlers = _Handlers(engine, Files(engine.images, engine.volumes, engine.events))
    one = "/containers/{id}"
    return [
        web.head(f"{one}/archive", handlers.stat),
        web.get(f"{one}/archive", handlers.get, allow_head=False),
        web.put(f"{one}/archive", handlers.put),
        web.get(f"{one}/changes", handlers.changes),
        web.get(f"{one}/export", handlers.export, allow_head=False),
    ]


class _Handlers:
    def __init__(self, engine: Engine, files: Files) -> None:
        self._engine = engine
        self._files = files

    async def stat(self, request: web.Request) -> web.Response:
        found = await self._files.stat(self._container(request), _path(request))
        return web.Response(headers={STAT_HEADER: _encode(found)})

    async def get(self, request: web.Request) -> web.StreamResponse:
        async with self._files.read(self._container(request), _path(request)) as (found, chunks):
            headers = {STAT_HEADER: _encode(found), "Content-Type": "application/x-tar"}
            return await _stream(request, chunks, headers)

    async def put(self, request: web.Request) -> web.Response:
        await self._files.write(
            self._container(request),
            _path(request),
            request.content.iter_chunked(_CHUNK_BYTES),
            for_user=flag(request, "copyUIDGID"),
            keep_kinds=flag(request, "noOverwriteDirNonDir"),
        )
        return web.Response()

    async def changes(self, request: web.Request) -> web.Response:
        found = await self._files.changes(self._container(request))
        return json_response([change.document() for change in found])

    async def export(self, request: web.Request) -> web.StreamResponse:
        async with self._files.export(self._container(request)) as chunks:
            return await _stream(request, chunks, {"Content-Type": "application/octet-stream"})

    def _container(self, request: web.Request) -> Container:
        return self._engine.containers.get(request.match_info["id"])


async def _stream(
    request: web.Request, chunks: AsyncIterator[bytes], headers: dict[str, str]
) -> web.StreamResponse:
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    try:
        async for chunk in chunks:
            await response.write(chunk)
        await response.write_eof()
    except SeomError as error:
        # Too late for a status: the client has to see that the stream is cut off.
        log.error("%s %s: %s", request.method, request.path, error)
        if request.transport is not None:
            request.transport.abort()
    return response


def _path(request: web.Request) -> str:
    path = request.query.get("path", "")
    if not path or "\0" in path:
        raise InvalidParameter("bad parameter: path cannot be empty, nor contain a NUL byte")
    return path


def _encode(found: PathStat) -> str:
    return base64.b64encode(msgspec.json.encode(found)).decode()
