"""After a start of the daemon: find again what kept running, settle what ended, sweep what is left.

stored as running, monitor answers      -> watched again
stored as running, exit record is there -> settled with its exit code
stored as running, nothing is there     -> settled with 255: host or monitor and init were killed
stored as removing                      -> removed
stored as not running, but it runs      -> ended: the start had not been answered
processes and cgroups without a monitor -> killed, removed: nobody could tell how they end
directories without a row               -> deleted
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path

from seom.containers.runtime import ExitRecord, Workload
from seom.engine import mounts
from seom.engine.container import Container, Status, now_ns
from seom.engine.engine import Engine
from seom.engine.host import boot_id
from seom.engine.restart import wants_start_with_daemon
from seom.linux.cgroup import Cgroup

log = logging.getLogger(__name__)

LOST_EXIT = 255


async def recover(engine: Engine) -> None:
    """Bring memory, database, kernel and disk into agreement."""
    containers = engine.containers.all()
    for container in reversed(containers):
        try:
            await _recover_one(engine, container)
        except Exception:
            log.exception("container %s could not be recovered", container.short_id)
    await engine.networks.finish_recovery()
    await asyncio.to_thread(_sweep, engine)


async def _recover_one(engine: Engine, container: Container) -> None:
    state = container.state
    if not container.running:
        # Killed between order and row: a start that nobody was told of is taken back.
        await asyncio.to_thread(_end, engine.containers.cgroup(container))
    if state.status in (Status.REMOVING, Status.DEAD):
        state.status = Status.DEAD
        await engine.containers.remove(container)
    elif container.running:
        await _recover_running(engine, container)
    elif state.status == Status.RESTARTING or wants_start_with_daemon(container.host.restart_policy, state):
        if state.started_at_ns:
            engine.containers.lifecycle.resume_restart(container)
    elif state.status == Status.EXITED and container.host.auto_remove:
        await engine.containers.remove(container, volumes=True)


async def _recover_running(engine: Engine, container: Container) -> None:
    found: Workload | ExitRecord | None = None
    if container.state.boot_id == boot_id():
        found = await engine.runtime.adopt(container.id, container.run_directory)
    lifecycle = engine.containers.lifecycle
    if isinstance(found, Workload):
        container.state.pid = found.pid
        mounts.hold(container.definition.mounts, container.id, engine.volumes)
        await engine.networks.recover(container.member())
        await asyncio.to_thread(_agree_on_pause, engine, container)
        lifecycle.resume_watch(container, found)
        return
    await asyncio.to_thread(_end, engine.containers.cgroup(container))
    await lifecycle.settle(
        container, found or ExitRecord(code=LOST_EXIT, finished_at_ns=now_ns(), oom_killed=False)
    )


def _agree_on_pause(engine: Engine, container: Container) -> None:
    """Paused is what the user was told; a killed daemon may have been about to change it, or to commit."""
    cgroup = engine.containers.cgroup(container)
    paused = container.state.status == Status.PAUSED
    if cgroup.frozen() and not paused:
        cgroup.thaw()
    elif paused and not cgroup.frozen():
        cgroup.freeze()


def _end(cgroup: Cgroup) -> None:
    if cgroup.exists():
        cgroup.kill()
        cgroup.remove()


def _sweep(engine: Engine) -> None:
    """Delete the directories and cgroups of containers that are not in the database."""
    known = {container.id for container in engine.containers.all()}
    parent = engine.settings.cgroup_parent
    names = {entry.name for folder in Cgroup(parent).folders for entry in _directories(Path(folder))}
    for name in names - known:
        log.info("ending what is left in cgroup %s", name[:12])
        _end(Cgroup(f"{parent}/{name}"))
    for root in (engine.settings.data_root, engine.settings.run_dir):
        for entry in (root / "containers").iterdir():
            if entry.name not in known:
                log.info("removing what is left of container %s", entry.name[:12])
                shutil.rmtree(entry, ignore_errors=True)


def _directories(folder: Path) -> list[Path]:
    try:
        return [entry for entry in folder.iterdir() if entry.is_dir()]
    except FileNotFoundError:
        return []
