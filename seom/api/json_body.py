"""JSON in and out."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from aiohttp import web

from seom.errors import InvalidParameter

T = TypeVar("T")


async def read_json(request: web.Request, type: type[T], required: bool = True) -> T:
    """The body as a structure; raises InvalidParameter for what is not JSON or not of the type."""
    body = await request.read()
    if not body.strip():
        if required:
            raise InvalidParameter("invalid JSON: the request has no body")
        body = b"{}"
    content_type = request.content_type
    if body != b"{}" and content_type not in ("application/json", "application/octet-stream", "text/plain"):
        raise InvalidParameter(
            f"unsupported Content-Type header ({content_type}): must be 'application/json'"
        )
    try:
        return msgspec.json.decode(body, type=type)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"invalid JSON: {error}") from error


def json_response(document: object, status: int = 200) -> web.Response:
    """A document as JSON."""
    return web.Response(
        status=status, body=msgspec.json.encode(document) + b"\n", content_type="application/json"
    )
