"""/seom/v1/reset: back to an empty instance."""

from __future__ import annotations

from aiohttp import web

from seom.build.builds import Builds
from seom.engine.engine import Engine
from seom.engine.reset import reset_instance


def routes(engine: Engine, builds: Builds) -> list[web.RouteDef]:
    """The handlers of this module."""

    async def reset(request: web.Request) -> web.Response:
        await builds.reset()
        await reset_instance(engine)
        return web.Response(status=204)

    return [web.post("/seom/v1/reset", reset)]
