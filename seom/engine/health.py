"""Health checks: a command in the container, run again and again.

starting -> healthy on the first success; unhealthy after `retries` failures in a row, failures
during the start period not counted. Every change is an event.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from seom.containers.config import HealthConfig
from seom.engine.container import HEALTH_LOG_ENTRIES, Container, Health, Probe, now_ns, rfc3339
from seom.engine.definition import words
from seom.engine.events import EventBus
from seom.storage.database import Database

log = logging.getLogger(__name__)

DEFAULT_INTERVAL_S = 30.0
DEFAULT_TIMEOUT_S = 30.0
DEFAULT_START_INTERVAL_S = 5.0
DEFAULT_RETRIES = 3
OUTPUT_BYTES = 4096

RunProbe = Callable[[Container, list[str], float], Awaitable[tuple[int, bytes]]]
"""Runs a command in a container, for at most some seconds: (exit code, output). Raises TimeoutError."""


class HealthMonitor:
    """One task per container with a health check."""

    def __init__(self, db: Database, events: EventBus) -> None:
        self._db = db
        self._events = events
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.run_probe: RunProbe | None = None

    def applies_to(self, container: Container) -> bool:
        """Whether the container has a health check."""
        return bool(_command(container))

    def begin(self, container: Container) -> None:
        """Check from now on, when the container has a health check."""
        self.end(container)
        if self.applies_to(container):
            self._tasks[container.id] = asyncio.create_task(self._check_until_ended(container))

    def end(self, container: Container) -> None:
        """Stop checking."""
        task = self._tasks.pop(container.id, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Stop all checks."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _check_until_ended(self, container: Container) -> None:
        check = container.config.healthcheck
        assert check is not None
        start_period_s = check.start_period / 1e9
        began = time.monotonic()
        while True:
            in_start_period = time.monotonic() - began < start_period_s
            await asyncio.sleep(_interval_s(check, in_start_period and self._is_starting(container)))
            if container.paused:
                continue
            started_ns = now_ns()
            code, output = await self._probe(container, check)
            in_start_period = time.monotonic() - began < start_period_s
            self._record(container, check, started_ns, code, output, in_start_period)

    def _is_starting(self, container: Container) -> bool:
        return container.state.health is not None and container.state.health.status == "starting"

    async def _probe(self, container: Container, check: HealthConfig) -> tuple[int, str]:
        timeout_s = check.timeout / 1e9 or DEFAULT_TIMEOUT_S
        assert self.run_probe is not None
        try:
            code, output = await self.run_probe(container, _command(container), timeout_s)
        except TimeoutError:
            return -1, f"Health check exceeded timeout ({timeout_s:g}s)"
        except Exception as error:
            return -1, str(error)
        return code, output[:OUTPUT_BYTES].decode(errors="replace")

    def _record(
        self,
        container: Container,
        check: HealthConfig,
        started_ns: int,
        code: int,
        output: str,
        in_start_period: bool,
    ) -> None:
        health = container.state.health = container.state.health or Health()
        probe = Probe(start=rfc3339(started_ns), end=rfc3339(now_ns()), exit_code=code, output=output)
        health.log = [*health.log, probe][-HEALTH_LOG_ENTRIES:]
        previous = health.status
        if code == 0:
            health.failing_streak = 0
            health.status = "healthy"
        elif not (in_start_period and previous == "starting"):
            health.failing_streak += 1
            if health.failing_streak >= (check.retries or DEFAULT_RETRIES):
                health.status = "unhealthy"
        container.save_state(self._db)
        if health.status != previous:
            self._events.publish(
                "container",
                f"health_status: {health.status}",
                container.id,
                container.event_attributes(),
            )


def _command(container: Container) -> list[str]:
    """The check's argument vector, or an empty list for none."""
    check = container.config.healthcheck
    if check is None or not check.test or check.test[0] == "NONE":
        return []
    if check.test[0] == "CMD":
        return check.test[1:]
    if check.test[0] == "CMD-SHELL":
        shell = words(container.config.shell) or ["/bin/sh", "-c"]
        return [*shell, *check.test[1:]]
    return []


def _interval_s(check: HealthConfig, starting: bool) -> float:
    if starting:
        return check.start_interval / 1e9 or DEFAULT_START_INTERVAL_S
    return check.interval / 1e9 or DEFAULT_INTERVAL_S
