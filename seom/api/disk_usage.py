"""GET /system/df: what images, containers and volumes take on the disk."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from seom.api.build import cache_document
from seom.api.container_json import list_row
from seom.api.image_documents import summaries
from seom.api.json_body import json_response
from seom.build.builds import Builds
from seom.engine.container import Container
from seom.engine.engine import Engine
from seom.engine.filters import Filters
from seom.engine.image_listing import list_images
from seom.engine.image_removal import chain_ids
from seom.errors import InvalidParameter
from seom.volumes.usage import disk_usage

KINDS = ("container", "image", "volume", "build-cache")


def routes(engine: Engine, builds: Builds) -> list[web.RouteDef]:
    """The handlers of this module."""

    async def usage(request: web.Request) -> web.Response:
        wanted = request.query.getall("type", list(KINDS))
        for kind in wanted:
            if kind not in KINDS:
                raise InvalidParameter(f"unknown object type: {kind}")
        return json_response(await usage_document(engine, builds, wanted))

    return [web.get("/system/df", usage)]


async def usage_document(engine: Engine, builds: Builds, wanted: list[str]) -> dict[str, Any]:
    """The answer for the kinds of objects that are wanted; the others are null."""
    document: dict[str, Any] = dict.fromkeys(("Images", "Containers", "Volumes", "BuildCache"))
    if "image" in wanted:
        shown = list_images(engine.images.store, Filters())
        document["LayersSize"] = layers_bytes(engine)
        document["Images"] = summaries(engine.images, shown, shared_size=True, count_containers=True)
    if "container" in wanted:
        containers = engine.containers.all()
        document["Containers"] = [
            list_row(engine, container, await container_bytes(engine, container)) for container in containers
        ]
    if "volume" in wanted:
        document["Volumes"] = await _volumes(engine)
    if "build-cache" in wanted:
        document["BuildCache"] = [cache_document(record) for record in await builds.records()]
    return document


def layers_bytes(engine: Engine) -> int:
    """Bytes of all layers of images; one that several images share counts once."""
    layers = {
        chain: layer.size_bytes
        for image in engine.images.store.all()
        for chain, layer in zip(chain_ids(image.diff_ids), image.layers, strict=True)
    }
    return sum(layers.values())


async def container_bytes(engine: Engine, container: Container) -> tuple[int, int]:
    """(bytes of the writable layer, bytes of the whole root file system)."""
    writable = await asyncio.to_thread(disk_usage, container.directory / "upper")
    return writable, writable + engine.images.size_of(container.definition.diff_ids)


async def _volumes(engine: Engine) -> list[dict[str, object]]:
    sizes = await engine.volumes.sizes()
    return [
        volume.inspect()
        | {
            "UsageData": {
                "RefCount": engine.volumes.reference_count(volume.name),
                "Size": sizes.get(volume.name, -1),
            }
        }
        for volume in engine.volumes.select()
    ]
