"""Removing everything of this instance: containers, images, networks, volumes, and their traces."""

from __future__ import annotations

import asyncio

from seom.engine.engine import Engine
from seom.errors import NotFound
from seom.linux.cgroup import Cgroup


async def reset_instance(engine: Engine) -> None:
    """Back to the state of a first start; other instances on the host are not touched."""
    containers = engine.containers

    async def remove(id: str) -> None:
        try:
            await containers.remove(containers.get(id), force=True, volumes=True)
        except NotFound:
            return

    async with asyncio.TaskGroup() as group:
        for container in containers.all():
            group.create_task(remove(container.id))
    await engine.volumes.reset()
    await engine.images.reset()
    await engine.networks.reset()
    await asyncio.to_thread(Cgroup(engine.settings.cgroup_parent).remove)
