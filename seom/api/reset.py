"""/seom/v1/reset: back to an empty instance."""

from __future__ import annotations

from aiohttp import web

from seom.engine.engine import Engine
from seom.engine.reset import reset_instance


def routes(engine: Engine) -> list[web.RouteDef]:
    """The handlers of this module."""

    async def reset(request: web.Request) -> web.Response:
        await reset_instance(engine)
        return web.Response(status=204)

    return [web.post("/seom/v1/reset", reset)]
