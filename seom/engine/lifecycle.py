"""The life of a container: start, stop, kill, restart, pause, and what happens when it exits.

    start -> launch -> watch --exit--> settle -> (auto-remove | restart policy | rest)

One task per running container waits for its exit and settles it: nobody else writes an exit.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress

from seom.containers.runtime import ExitRecord, Workload
from seom.engine.container import Container, Health, Status, now_ns
from seom.engine.definition import DEFAULT_STOP_TIMEOUT_S
from seom.engine.events import EventBus
from seom.engine.health import HealthMonitor
from seom.engine.host import boot_id
from seom.engine.launch import Launcher, LaunchFailure
from seom.engine.restart import RestartDelay, wants_restart
from seom.engine.signals import parse_signal
from seom.errors import Conflict, NotModified, SystemFailure
from seom.storage.database import Database

log = logging.getLogger(__name__)

KILL_TIMEOUT_S = 10.0
"""How long a killed container may take to end before the user is told that it does not."""


class Lifecycle:
    """Starts and ends containers; keeps the tasks that watch them."""

    def __init__(
        self,
        db: Database,
        events: EventBus,
        launcher: Launcher,
        health: HealthMonitor,
        remove: Callable[[Container], Awaitable[None]],
    ) -> None:
        """remove is called for containers that are to vanish when they exit."""
        self._db = db
        self._events = events
        self._launcher = launcher
        self._health = health
        self._remove = remove
        self._restarts: dict[str, asyncio.Task[None]] = {}
        self._watchers: set[asyncio.Task[None]] = set()
        self._delays: dict[str, RestartDelay] = {}

    async def close(self) -> None:
        """Stop watching and checking; workloads go on."""
        tasks = [*self._restarts.values(), *self._watchers]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._health.close()

    # Start

    async def start(self, container: Container) -> None:
        """Start a container that does not run. Raises NotModified, Conflict or LaunchFailure."""
        try:
            await self._start(container)
        except LaunchFailure:
            if container.host.auto_remove:
                await self._remove(container)
            raise

    async def _start(self, container: Container) -> None:
        async with container.lock:
            if container.state.status == Status.PAUSED:
                raise Conflict("cannot start a paused container, try unpause instead")
            if container.state.status == Status.RUNNING:
                raise NotModified("container is already running")
            if container.state.status in (Status.REMOVING, Status.DEAD) or container.removed:
                raise Conflict("container is marked for removal and cannot be started")
            self._cancel_restart(container)
            container.state.restart_count = 0
            self._delays.pop(container.id, None)
            await self._launch(container)

    async def _launch(self, container: Container) -> None:
        state = container.state
        attachments, container.pending_attachments = container.pending_attachments, []
        state.stopped_by_user = False
        try:
            workload = await self._launcher.launch(container, attachments)
        except LaunchFailure as failure:
            await self._record_failed_start(container, failure)
            raise
        self.watch(container, workload)
        state.status = Status.RUNNING
        state.pid = workload.pid
        state.started_at_ns = workload.started_at_ns
        state.boot_id = boot_id()
        state.exit_code, state.error, state.oom_killed = 0, "", False
        state.health = Health() if self._health.applies_to(container) else None
        container.save_state(self._db)
        self._publish(container, "start")
        self._health.begin(container)
        await container.notify()

    async def _record_failed_start(self, container: Container, failure: LaunchFailure) -> None:
        state = container.state
        state.exit_code = failure.exit_code
        state.error = str(failure)
        if state.status != Status.CREATED:
            state.status = Status.EXITED
        state.finished_at_ns = now_ns() if state.status == Status.EXITED else 0
        container.save_state(self._db)
        # Not counted as an exit: who waits for one is the client that is told of the failure anyway.
        self._publish(container, "die", exitCode=str(failure.exit_code))
        await container.notify()

    # Exit

    def watch(self, container: Container, workload: Workload) -> None:
        """Settle the container when the workload ends."""
        container.workload = workload
        watcher = asyncio.create_task(self._settle_on_exit(container, workload))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    def resume_watch(self, container: Container, workload: Workload) -> None:
        """Watch a workload that an earlier daemon started."""
        self.watch(container, workload)
        self._health.begin(container)

    async def _settle_on_exit(self, container: Container, workload: Workload) -> None:
        record = await workload.wait()
        try:
            await self.settle(container, record)
        except Exception:
            log.exception("the exit of container %s could not be settled", container.short_id)

    async def settle(self, container: Container, record: ExitRecord) -> None:
        """Record an exit, give back what the run held, then remove or restart or leave it."""
        async with container.lock:
            self._health.end(container)
            ran_s = max(0.0, (record.finished_at_ns - container.state.started_at_ns) / 1e9)
            restart = self._record_exit(container, record, ran_s)
            await self._launcher.release(container)
            self._launcher.publish_unmounts(container)
            container.exits += 1
            await container.notify()
            if restart:
                self._schedule_restart(container, ran_s)
        if container.host.auto_remove and not restart:
            await self._remove(container)

    def _record_exit(self, container: Container, record: ExitRecord, ran_s: float) -> bool:
        state = container.state
        container.workload = None
        state.pid = 0
        state.exit_code = record.code
        state.oom_killed = record.oom_killed
        state.finished_at_ns = record.finished_at_ns
        restart = wants_restart(container.host.restart_policy, state)
        state.status = Status.RESTARTING if restart else Status.EXITED
        try:
            container.save_state(self._db)
        except SystemFailure as error:
            # The exit is in memory, and in exit.json for the next daemon.
            log.error("the exit of container %s was not stored: %s", container.short_id, error)
        if record.oom_killed:
            self._publish(container, "oom")
        self._publish(container, "die", exitCode=str(record.code), execDuration=str(int(ran_s)))
        return restart

    def _schedule_restart(self, container: Container, ran_s: float) -> None:
        delay = self._delays.setdefault(container.id, RestartDelay())
        task = asyncio.create_task(self._restart_after(container, delay.next_s(ran_s)))
        self._restarts[container.id] = task
        task.add_done_callback(lambda done: self._forget_restart(container.id, done))

    def _forget_restart(self, id: str, task: asyncio.Task[None]) -> None:
        if self._restarts.get(id) is task:
            del self._restarts[id]

    async def _restart_after(self, container: Container, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        async with container.lock:
            if container.state.status != Status.RESTARTING:
                return
            container.state.restart_count += 1
            try:
                await self._launch(container)
            except LaunchFailure as failure:
                log.warning("container %s could not be restarted: %s", container.short_id, failure)

    def resume_restart(self, container: Container) -> None:
        """After a daemon restart: start again what its policy wants running."""
        container.state.status = Status.RESTARTING
        self._schedule_restart(container, 0.0)

    def _cancel_restart(self, container: Container) -> bool:
        task = self._restarts.pop(container.id, None)
        if task is None:
            return False
        task.cancel()
        return True

    # Stop

    async def stop(self, container: Container, timeout_s: float | None = None, signal_name: str = "") -> None:
        """Ask the container to end, then kill it after timeout_s (negative: wait for ever)."""
        container.state.stopped_by_user = True
        container.save_state(self._db)
        if await self._settle_pending_restart(container):
            return
        if not container.running:
            raise NotModified("container is already stopped")
        number = parse_signal(signal_name or container.config.stop_signal or "SIGTERM")
        if timeout_s is None:
            configured = container.config.stop_timeout
            timeout_s = DEFAULT_STOP_TIMEOUT_S if configured is None else configured
        seen = container.exits
        self._send(container, number)
        if container.paused:
            await self.unpause(container)
        if not await self._exits_within(container, seen, timeout_s):
            await self._kill_and_wait(container, seen)
        self._publish(container, "stop")

    async def _settle_pending_restart(self, container: Container) -> bool:
        """Give up a restart that is waiting for its time; True when there was one."""
        async with container.lock:
            if container.state.status != Status.RESTARTING:
                return False
            self._cancel_restart(container)
            container.state.status = Status.EXITED
            container.save_state(self._db)
            await container.notify()
            return True

    async def _exits_within(self, container: Container, seen: int, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(None if timeout_s < 0 else timeout_s):
                await container.wait_until_exit(seen)
        except TimeoutError:
            return False
        return True

    async def _kill_and_wait(self, container: Container, seen: int) -> None:
        self._send(container, signal.SIGKILL)
        if container.paused:
            # It may have ended already, and its cgroup with it.
            with suppress(Conflict):
                await self._launcher.thaw(container)
        if not await self._exits_within(container, seen, KILL_TIMEOUT_S):
            raise SystemFailure(
                f"container {container.short_id} does not end although it was killed; a process of it hangs "
                "in the kernel (see its state in /proc), often on a disk or network file system"
            )

    def _send(self, container: Container, number: int) -> None:
        if container.workload is None:
            return
        try:
            container.workload.signal(number)
        except ProcessLookupError:
            return
        self._publish(container, "kill", signal=str(number))

    async def kill(self, container: Container, signal_name: str = "") -> None:
        """Send a signal (SIGKILL by default); SIGKILL waits for the end."""
        number = parse_signal(signal_name or "SIGKILL")
        if container.state.status == Status.RESTARTING and number == signal.SIGKILL:
            container.state.stopped_by_user = True
            await self._settle_pending_restart(container)
            return
        if not container.running:
            raise Conflict(
                f"cannot kill container: {container.name}: container {container.id} is not running"
            )
        if number in (signal.SIGKILL, parse_signal(container.config.stop_signal or "SIGTERM")):
            container.state.stopped_by_user = True
            container.save_state(self._db)
        if number != signal.SIGKILL:
            self._send(container, number)
            return
        await self._kill_and_wait(container, container.exits)

    async def restart(
        self, container: Container, timeout_s: float | None = None, signal_name: str = ""
    ) -> None:
        """Stop when running, then start."""
        try:
            if container.running or container.state.status == Status.RESTARTING:
                async with AsyncExitStack() as stack:
                    self._keep_after_exit(container, stack)
                    await self.stop(container, timeout_s, signal_name)
        except NotModified:
            pass
        await self.start(container)
        self._publish(container, "restart")

    def _keep_after_exit(self, container: Container, stack: AsyncExitStack) -> None:
        """A container that is to vanish at its end survives a restart."""
        if container.host.auto_remove:
            container.host.auto_remove = False
            stack.callback(setattr, container.host, "auto_remove", True)

    # Pause

    async def pause(self, container: Container, stored: bool = True) -> None:
        """Freeze every process; one that is not stored ends with the daemon, should that be killed."""
        async with container.lock:
            if container.paused:
                raise Conflict(f"container {container.id} is already paused")
            if not container.running:
                raise Conflict(f"container {container.id} is not running")
            await self._launcher.freeze(container)
            container.state.status = Status.PAUSED
            if stored:
                container.save_state(self._db)
            self._publish(container, "pause")
            await container.notify()

    async def unpause(self, container: Container) -> None:
        """Let the processes go on."""
        async with container.lock:
            if not container.paused:
                raise Conflict(f"container {container.id} is not paused")
            await self._launcher.thaw(container)
            container.state.status = Status.RUNNING
            container.save_state(self._db)
            self._publish(container, "unpause")
            await container.notify()

    def _publish(self, container: Container, action: str, **attributes: str) -> None:
        self._events.publish(
            "container", action, container.id, {**container.event_attributes(), **attributes}
        )
