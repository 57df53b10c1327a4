"""An answer that tells progress line by line while the work goes on.

The answer begins with the first line. What fails before that is an ordinary error with its status;
what fails later can only be told in the stream, as its last line.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from aiohttp import web

from seom.api.server import describe
from seom.errors import SeomError
from seom.images.progress import Message, Report, encode, failure

log = logging.getLogger(__name__)

BACKLOG = 256
"""Lines that wait for a slow client before mere numbers are left out."""

LISTEN_INTERVAL_S = 1.0


async def stream_progress(
    request: web.Request, work: Callable[[Report], Awaitable[object]]
) -> web.StreamResponse:
    """Do the work and send what it reports; a client that goes away cancels it.

    Raises what the work raises before its first line.
    """
    stream = _ProgressStream(request)
    task = asyncio.ensure_future(work(stream.report))
    task.add_done_callback(lambda done: stream.changed.set())
    try:
        while not (task.done() and not stream.waiting):
            await stream.pass_on()
    except ConnectionError:
        log.info("%s: the client went away", request.path)
    finally:
        task.cancel()
        await asyncio.wait([task])
    error = None if task.cancelled() else task.exception()
    if error is None:
        return await stream.begin()
    if not stream.begun or not isinstance(error, Exception):
        raise error
    if not isinstance(error, SeomError | OSError):
        log.error("%s %s failed", request.method, request.path, exc_info=error)
    await stream.send(failure(describe(error), getattr(error, "exit_code", 0)))
    return await stream.begin()


class _ProgressStream:
    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._response = web.StreamResponse(headers={"Content-Type": "application/json"})
        self.waiting: deque[Message] = deque()
        self.changed = asyncio.Event()

    @property
    def begun(self) -> bool:
        return self._response.prepared

    def report(self, message: Message) -> None:
        """Queue a line; numbers only while the client keeps up."""
        if not message.progress or len(self.waiting) < BACKLOG:
            self.waiting.append(message)
            self.changed.set()

    async def pass_on(self) -> None:
        """Send what waits; if nothing does, wait a while. Raises ConnectionError without a client."""
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client went away")
        try:
            async with asyncio.timeout(LISTEN_INTERVAL_S):
                await self.changed.wait()
        except TimeoutError:
            return
        self.changed.clear()
        while self.waiting:
            await self.send(self.waiting.popleft())

    async def send(self, message: Message) -> None:
        await self.begin()
        await self._response.write(encode(message))

    async def begin(self) -> web.StreamResponse:
        """The answer, with its head sent."""
        if not self._response.prepared:
            await self._response.prepare(self._request)
        return self._response
