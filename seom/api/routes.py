"""Every route of the daemon."""

from __future__ import annotations

from aiohttp import web

from seom.api import (
    archive,
    attach,
    containers,
    disk_usage,
    execs,
    images,
    networks,
    registry,
    reset,
    stats,
    system,
    volumes,
)
from seom.engine.engine import Engine


def all_routes(engine: Engine) -> list[web.RouteDef]:
    """The routes of all modules; fixed paths before patterns."""
    modules = (
        system,
        disk_usage,
        containers,
        attach,
        archive,
        stats,
        execs,
        images,
        registry,
        networks,
        volumes,
        reset,
    )
    return [route for module in modules for route in module.routes(engine)]
