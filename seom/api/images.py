"""Images that are here: list, inspect, name, remove, load, save, import, commit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from urllib.parse import urlsplit

import aiohttp
import msgspec
from aiohttp import web

from seom.api.image_documents import history, inspection, summaries
from seom.api.json_body import json_response
from seom.api.progress_stream import stream_progress
from seom.containers.changes import unused_mount_points
from seom.engine.container import Container
from seom.engine.engine import Engine
from seom.engine.filters import Filters, parse_filters
from seom.engine.image_listing import list_images, prune_filter
from seom.engine.images import Images, check_unambiguous
from seom.errors import Conflict, InvalidParameter, NotFound, NotSupported, SeomError, Unavailable
from seom.images.making import CommitSource
from seom.images.progress import Report, status
from seom.images.store import Image
from seom.oci.descriptor import Platform
from seom.oci.image_config import ExecutionConfig
from seom.oci.reference import Reference, parse_reference

log = logging.getLogger(__name__)


def routes(engine: Engine) -> list[web.RouteDef]:
    """The endpoints below /images, except pull and push, and /commit."""
    images = _Images(engine.images)
    committing = _Committing(engine)
    return [
        web.get("/images/json", images.list),
        web.get("/images/get", images.save),
        web.post("/images/load", images.load),
        web.post("/images/prune", images.prune),
        web.get("/images/search", search),
        web.get("/images/{name:.+}/json", images.inspect),
        web.get("/images/{name:.+}/history", images.history),
        web.get("/images/{name:.+}/get", images.save),
        web.post("/images/{name:.+}/tag", images.tag),
        web.delete("/images/{name:.+}", images.remove),
        web.post("/commit", committing.commit),
    ]


async def search(request: web.Request) -> web.Response:
    """Searching is a service of Docker Hub's, not of registries."""
    raise NotSupported(
        "searching images is not supported: registries have no search; use the registry's web page"
    )


class _Images:
    def __init__(self, images: Images) -> None:
        self._images = images

    async def list(self, request: web.Request) -> web.Response:
        """The images, filtered, newest first."""
        filters = parse_filters(request.query.get("filters"))
        if request.query.get("filter"):  # clients before 1.25
            filters = Filters({"reference": [request.query["filter"]]})
        every, shared = _flag(request, "all"), _flag(request, "shared-size")
        shown = list_images(self._images.store, filters, every)
        return json_response(summaries(self._images, shown, shared, count_containers=True))

    async def inspect(self, request: web.Request) -> web.Response:
        """Everything about one image."""
        return json_response(inspection(self._images, self._image(request)))

    def _image(self, request: web.Request) -> Image:
        return self._images.resolve(request.match_info["name"], _platform(request))

    async def history(self, request: web.Request) -> web.Response:
        """How an image came to be."""
        return json_response(history(self._images, self._image(request)))

    async def tag(self, request: web.Request) -> web.Response:
        """Give an image a further name."""
        reference = _target(request)
        if reference is None:
            raise InvalidParameter("invalid reference format")
        self._images.tag(request.match_info["name"], reference)
        return web.Response(status=201)

    async def remove(self, request: web.Request) -> web.Response:
        """Remove a name or an image."""
        force, keep_parents = _flag(request, "force"), _flag(request, "noprune")
        return json_response(self._images.remove(request.match_info["name"], force, not keep_parents))

    async def prune(self, request: web.Request) -> web.Response:
        """Remove unused images."""
        dangling_only, accept = prune_filter(parse_filters(request.query.get("filters")))
        removed, freed = self._images.prune(dangling_only, accept)
        return json_response({"ImagesDeleted": removed or None, "SpaceReclaimed": freed})

    async def load(self, request: web.Request) -> web.StreamResponse:
        """Take in an archive."""
        platform, quiet = _platform(request), _flag(request, "quiet")
        return await stream_progress(
            request, lambda report: self._images.load(request_body(request), report, platform, quiet)
        )

    async def save(self, request: web.Request) -> web.StreamResponse:
        """Send images as an archive; a failure on the way breaks the connection."""
        name = request.match_info.get("name")
        names = [name] if name else request.query.getall("names", [])
        platform = _platform(request)
        for each in names if platform else ():
            self._images.resolve(each, platform)
        self._images.check_saved(names)
        response = web.StreamResponse(headers={"Content-Type": "application/x-tar"})
        await response.prepare(request)
        try:
            async for chunk in self._images.save(names):
                await response.write(chunk)
        except (SeomError, OSError) as error:
            log.error("saving %s failed: %s", ", ".join(names), error)
            if request.transport:
                request.transport.abort()
            return response
        await response.write_eof()
        return response


async def import_image(images: Images, request: web.Request) -> web.StreamResponse:
    """POST /images/create with fromSrc: an image from the tar of a file system."""
    query = request.query
    source = query["fromSrc"]
    reference = _target(request)
    changes = query.getall("changes", [])
    message = query.get("message") or f"Imported from {source}"

    async def work(report: Report) -> None:
        chunks = request_body(request) if source == "-" else _download(source, report)
        image = await images.import_rootfs(chunks, reference, changes, message, query.get("platform", ""))
        report(status(image.id))

    return await stream_progress(request, work)


class _Committing:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def commit(self, request: web.Request) -> web.Response:
        """An image from a container, which is paused meanwhile unless the client objects."""
        query = request.query
        container = self._engine.containers.get(query.get("container", ""))
        reference = _target(request)
        wanted = await _wanted_config(request)
        images = self._engine.images
        message = query.get("comment", "")
        changes, author = query.getall("changes", []), query.get("author", "")
        pause = _flag(request, "pause", default=True) and container.running and not container.paused
        async with self._paused(container) if pause else nullcontext():
            source = await self._source(container)
            try:
                image = await images.commit(source, reference, wanted, changes, author, message)
            except FileNotFoundError as error:
                if not container.removed:
                    raise
                raise NotFound(f"No such container: {container.name}: it was removed meanwhile") from error
        attributes = {
            **container.event_attributes(),
            "comment": message,
            "imageID": image.id,
            "imageRef": reference.with_default_tag().familiar if reference else "",
        }
        self._engine.events.publish("container", "commit", container.id, attributes)
        return json_response({"Id": image.id}, status=201)

    async def _source(self, container: Container) -> CommitSource:
        images = self._engine.images
        parent = images.store.get(container.definition.image_id)
        upper = container.directory / "upper"
        return CommitSource(
            upper=upper,
            config=msgspec.convert(msgspec.to_builtins(container.definition.config), ExecutionConfig),
            parent=parent,
            skip=await asyncio.to_thread(unused_mount_points, images.layer_paths(parent), str(upper)),
        )

    @asynccontextmanager
    async def _paused(self, container: Container) -> AsyncIterator[None]:
        await self._engine.containers.lifecycle.pause(container, stored=False)
        try:
            yield
        finally:
            # It may have been unpaused or killed by somebody else meanwhile.
            with suppress(Conflict):
                await self._engine.containers.lifecycle.unpause(container)


async def _wanted_config(request: web.Request) -> ExecutionConfig | None:
    body = await request.read()
    try:
        return msgspec.json.decode(body, type=ExecutionConfig | None) if body.strip() else None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"invalid JSON: {error}") from error


async def request_body(request: web.Request) -> AsyncIterator[bytes]:
    """The request's body as it comes; raises ConnectionError when the client goes away."""
    try:
        async for chunk in request.content.iter_any():
            yield chunk
    except aiohttp.ClientError as error:
        raise InvalidParameter(f"the request's body is incomplete: {error}") from error


async def _download(source: str, report: Report) -> AsyncIterator[bytes]:
    """What a URL holds; a missing scheme means http."""
    url = source if urlsplit(source).scheme else f"http://{source}"
    if urlsplit(url).scheme not in {"http", "https"}:
        raise InvalidParameter(f"cannot import from {source}: only http and https are supported")
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            if response.status != 200:
                raise Unavailable(f"cannot import from {source}: the server answers {response.status}")
            report(status(f"Downloading from {source}"))
            async for chunk in response.content.iter_any():
                yield chunk
    except aiohttp.ClientError as error:
        raise Unavailable(f"cannot import from {source}: {error}") from error


def _target(request: web.Request) -> Reference | None:
    """The name in repo and tag; None when there is none. Raises InvalidParameter."""
    repository, tag = request.query.get("repo", ""), request.query.get("tag", "")
    if not repository:
        return None
    reference = parse_reference(repository)
    if reference.digest:
        raise InvalidParameter("cannot import digest reference")
    check_unambiguous(reference)
    return reference.with_tag(tag) if tag else reference.with_default_tag()


def _platform(request: web.Request) -> str:
    """The JSON of an OCI platform as os/architecture/variant; empty when not given."""
    text = request.query.get("platform", "")
    if not text.startswith("{"):
        return text
    try:
        return str(msgspec.json.decode(text, type=Platform))
    except msgspec.MsgspecError as error:
        raise InvalidParameter(f"invalid platform: {error}") from error


def _flag(request: web.Request, name: str, default: bool = False) -> bool:
    value = request.query.get(name)
    return default if value is None else value.lower() not in {"", "0", "no", "false", "none"}
