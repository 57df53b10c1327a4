"""Building the engine: which noun is given which, and in which order they open and close."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from seom.containers.runtime import Runtime
from seom.engine.container import Container
from seom.engine.containers import Containers
from seom.engine.distribution import Distribution
from seom.engine.engine import Engine, Settings
from seom.engine.events import EventBus
from seom.engine.execs import Execs
from seom.engine.health import HealthMonitor
from seom.engine.images import Images
from seom.engine.launch import Launcher
from seom.engine.lifecycle import Lifecycle
from seom.engine.networks import Networks
from seom.engine.recovery import recover
from seom.engine.volumes import Volumes
from seom.storage.database import Database
from seom.storage.placement import spread_subfolders


@asynccontextmanager
async def open_engine(settings: Settings) -> AsyncIterator[Engine]:
    """The engine of an instance, recovered and ready; leaving lets containers run on."""
    for root in (settings.data_root, settings.run_dir):
        (root / "containers").mkdir(mode=0o711, parents=True, exist_ok=True)
    spread_subfolders(settings.data_root / "containers")
    async with AsyncExitStack() as stack:
        db = Database(settings.data_root / "seom.db")
        stack.callback(db.close)
        events = EventBus()
        engine = _wire(settings, db, events)
        engine.containers.load()
        for noun in (engine.runtime, engine.images, engine.networks):
            await noun.open()
            stack.push_async_callback(noun.close)
        stack.callback(engine.distribution.close)
        await engine.volumes.open()
        stack.push_async_callback(engine.containers.lifecycle.close)
        await recover(engine)
        yield engine


def _wire(settings: Settings, db: Database, events: EventBus) -> Engine:
    found: list[Containers] = []

    def get(name: str) -> Container:
        return found[0].get(name)

    runtime = Runtime(settings.run_dir, settings.instance)
    images = Images(
        db,
        settings.data_root,
        events,
        users=lambda image_id: found[0].using_image(image_id),
    )
    distribution = Distribution(images, events, settings.insecure_registries)
    networks = Networks(
        db,
        settings.data_root,
        settings.instance,
        find=lambda name: get(name).member(),
        save=lambda id: get(id).save_definition(db),
        publish=events.publish,
    )
    volumes = Volumes(db, settings.data_root, events, users=lambda name: found[0].using_volume(name))
    health = HealthMonitor(db, events)
    launcher = Launcher(
        settings.data_root,
        settings.run_dir,
        settings.cgroup_parent,
        runtime,
        images,
        networks,
        volumes,
        events,
        get,
    )
    lifecycle = Lifecycle(
        db, events, launcher, health, remove=lambda container: found[0].remove_when_exited(container)
    )
    containers = Containers(db, events, images, networks, volumes, launcher, lifecycle)
    found.append(containers)
    execs = Execs(events)
    health.run_probe = execs.run_and_capture
    return Engine(settings, db, events, runtime, images, distribution, networks, volumes, containers, execs)
