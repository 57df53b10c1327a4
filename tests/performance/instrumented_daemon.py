"""seomd with a stopwatch around the steps of a container's life; writes their times when it stops.

usage: SEOM_STEPS=FILE python -m tests.performance.instrumented_daemon [options of seomd]
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from seom import daemon
from seom.containers.runtime import Runtime
from seom.engine.containers import Containers
from seom.engine.launch import Launcher
from seom.engine.lifecycle import Lifecycle
from seom.engine.networks import Networks

STEPS: list[tuple[type, str, str]] = [
    (Containers, "create", "create: image, checks, row, directories"),
    (Lifecycle, "start", "start: everything below"),
    (Launcher, "_prepare", "volumes, network, files, user, specification"),
    (Networks, "attach", "of these, the network: namespace from the pool, addresses"),
    (Runtime, "start", "order, monitor, cgroups, clone, mounts, confinement, execve"),
    (Lifecycle, "settle", "exit: row, events, network and mounts given back"),
    (Containers, "remove", "remove: row, directories"),
]

samples: dict[str, list[float]] = defaultdict(list)


def timed(title: str, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """The method, with its duration recorded in milliseconds."""

    @functools.wraps(method)
    async def measured(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return await method(*arguments, **named)
        finally:
            samples[title].append((time.perf_counter() - began) * 1000)

    return measured


def main() -> None:
    for owner, name, title in STEPS:
        setattr(owner, name, timed(title, getattr(owner, name)))
    try:
        daemon.main()
    finally:
        Path(os.environ["SEOM_STEPS"]).write_text(json.dumps(samples))


if __name__ == "__main__":
    main()
