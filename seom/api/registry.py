"""Pull, push, login, and a look at what a registry has."""

from __future__ import annotations

import msgspec
from aiohttp import web

from seom.api.images import import_image
from seom.api.json_body import json_response
from seom.api.progress_stream import stream_progress
from seom.engine.distribution import Distribution, wanted_reference
from seom.engine.engine import Engine
from seom.engine.images import Images
from seom.errors import InvalidParameter
from seom.images.auth import ANONYMOUS, Credentials, decode_credentials, read_credentials
from seom.oci.descriptor import parse_platform
from seom.oci.manifest import Index, decode_manifest
from seom.oci.reference import parse_reference


class LoginAnswer(msgspec.Struct, rename="pascal"):
    """The answer to a login that succeeded; the token is to be kept instead of the password."""

    status: str = "Login Succeeded"
    identity_token: str = ""


def routes(engine: Engine) -> list[web.RouteDef]:
    """POST /images/create, POST /images/NAME/push, POST /auth, GET /distribution/NAME/json."""
    handlers = _Handlers(engine.images, engine.distribution)
    return [
        web.post("/images/create", handlers.create),
        web.post("/images/{name:.+}/push", handlers.push),
        web.post("/auth", handlers.login),
        web.get("/distribution/{name:.+}/json", handlers.inspect),
    ]


class _Handlers:
    def __init__(self, images: Images, distribution: Distribution) -> None:
        self._images = images
        self._distribution = distribution

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Import fromSrc, or pull what fromImage and tag name; neither tag nor digest means all tags."""
        query = request.query
        if query.get("fromSrc"):
            return await import_image(self._images, request)
        reference = wanted_reference(query.get("fromImage", ""), query.get("tag", ""))
        platform = parse_platform(query["platform"]) if query.get("platform") else None
        credentials = account_of(request)
        return await stream_progress(
            request, lambda report: self._distribution.pull(reference, report, platform, credentials)
        )

    async def push(self, request: web.Request) -> web.StreamResponse:
        """Push a tag, or all tags of a repository when none is given."""
        reference = wanted_reference(request.match_info["name"], request.query.get("tag", ""))
        credentials = account_of(request)
        return await stream_progress(
            request, lambda report: self._distribution.push(reference, report, credentials)
        )

    async def login(self, request: web.Request) -> web.Response:
        """Check an account with its registry."""
        try:
            credentials = read_credentials(msgspec.json.decode(await request.read()))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InvalidParameter(f"invalid JSON: {error}") from error
        token = await self._distribution.login(credentials)
        return json_response(LoginAnswer(identity_token=token))

    async def inspect(self, request: web.Request) -> web.Response:
        """What a registry has under a name: descriptor and platforms."""
        reference = parse_reference(request.match_info["name"])
        found = await self._distribution.inspect(reference, account_of(request))
        document = decode_manifest(found.content, found.media_type)
        platforms = None
        if isinstance(document, Index):
            platforms = [entry.platform for entry in document.manifests if entry.platform]
        media_type = document.media_type or found.media_type
        descriptor = {"mediaType": media_type, "digest": found.digest, "size": len(found.content)}
        return json_response({"Descriptor": descriptor, "Platforms": platforms})


def account_of(request: web.Request) -> Credentials:
    """The account of the X-Registry-Auth header; a malformed one counts as none, as with Docker."""
    try:
        return decode_credentials(request.headers.get("X-Registry-Auth", ""))
    except InvalidParameter:
        return ANONYMOUS
