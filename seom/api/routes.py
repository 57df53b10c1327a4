"""Every route of the daemon."""

from __future__ import annotations

from aiohttp import web

from seom.api import (
    archive,
    attach,
    build,
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
from seom.build.builds import Builds
from seom.engine.engine import Engine


def all_routes(engine: Engine, builds: Builds) -> list[web.RouteDef]:
    """The routes of all modules; fixed paths before patterns."""
    modules = (
        system,
        containers,
        attach,
        archive,
        stats,
        execs,
        images,
        registry,
        networks,
        volumes,
    )
    found = [route for module in modules for route in module.routes(engine)]
    for needs_builds in (disk_usage, build, reset):
        found += needs_builds.routes(engine, builds)
    return found
