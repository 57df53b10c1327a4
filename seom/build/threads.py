"""Blocking work of builds, which must end before the build's files are closed and deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from seom.images.feeding import in_thread

Result = TypeVar("Result")


async def run_to_end(work: Callable[[], Result]) -> Result:
    """Run blocking work in a thread of its own; a caller that is cancelled waits for its end.

    Descriptors are the reason: one that is closed under a running thread may soon be another file.
    """
    task = asyncio.ensure_future(in_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
