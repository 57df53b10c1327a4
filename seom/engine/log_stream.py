"""Following a container's log until the container ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from seom.containers.log_reader import LogReader
from seom.engine.container import Container, Status
from seom.linux.inotify import (
    IN_CREATE,
    IN_MODIFY,
    IN_MOVED_TO,
    inotify_add_watch,
    inotify_init1,
    read_events,
)


async def follow_log(container: Container, reader: LogReader) -> AsyncIterator[bytes]:
    """Blocks as they are written, until the container has ended and all was read."""
    changed = asyncio.Event()
    loop = asyncio.get_running_loop()
    ended = asyncio.ensure_future(_until_ended(container))
    ended.add_done_callback(lambda _: changed.set())
    descriptor = inotify_init1()

    def on_change() -> None:
        for _ in read_events(descriptor):
            changed.set()

    try:
        inotify_add_watch(descriptor, str(container.directory), IN_MODIFY | IN_CREATE | IN_MOVED_TO)
        loop.add_reader(descriptor, on_change)
        while not reader.finished:
            changed.clear()
            is_last = ended.done()
            for block in await asyncio.to_thread(list, reader.more()):
                yield block
            if is_last:
                return
            await changed.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        ended.cancel()


async def _until_ended(container: Container) -> None:
    if container.running or container.state.status == Status.RESTARTING:
        await container.wait_until_not_running()
