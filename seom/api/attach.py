"""Streams of a container: attach (hijacked or by WebSocket) and logs."""

from __future__ import annotations

import asyncio
import os
import select
import socket

from aiohttp import WSMsgType, web

from seom.api.detach_keys import parse_detach_keys
from seom.api.hijack import MULTIPLEXED_STREAM, RAW_STREAM, HandedOver, hijack
from seom.api.query import flag
from seom.containers.log_reader import LogQuery, LogReader
from seom.containers.runtime import Attachment
from seom.engine.container import Container, Status
from seom.engine.engine import Engine
from seom.engine.log_stream import follow_log
from seom.engine.timestamps import parse_timestamp
from seom.errors import Conflict, InvalidParameter, NotSupported

STREAM_BYTES = 65536


def routes(engine: Engine) -> list[web.RouteDef]:
    """The handlers of this module."""
    handlers = StreamHandlers(engine)
    return [
        web.post("/containers/{id}/attach", handlers.attach),
        web.get("/containers/{id}/attach/ws", handlers.attach_websocket, allow_head=False),
        web.get("/containers/{id}/logs", handlers.logs, allow_head=False),
    ]


class StreamHandlers:
    """Attach and logs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def _container(self, request: web.Request) -> Container:
        return self._engine.containers.get(request.match_info["id"])

    async def attach(self, request: web.Request) -> web.StreamResponse:
        container = self._container(request)
        _check_attachable(container)
        detach_keys = parse_detach_keys(request.query.get("detachKeys", ""))
        framed = not container.config.tty
        replay = flag(request, "logs")
        stream = flag(request, "stream")
        query = LogQuery(stdout=flag(request, "stdout"), stderr=flag(request, "stderr"), framed=framed)
        fd, early = hijack(request, MULTIPLEXED_STREAM if _wants_multiplexed(request, framed) else RAW_STREAM)
        if replay:
            await asyncio.to_thread(_replay, fd, container, query)
        if not stream:
            os.close(fd)
            return HandedOver()
        attachment = Attachment(
            fd=fd,
            stdin=flag(request, "stdin") and container.config.open_stdin,
            stdout=query.stdout,
            stderr=query.stderr,
            detach_keys=detach_keys,
            early_input=early,
            framed=framed,
        )
        await self._deliver(container, attachment)
        return HandedOver()

    async def _deliver(self, container: Container, attachment: Attachment) -> None:
        """To the running workload, or kept until the container starts."""
        self._engine.events.publish("container", "attach", container.id, container.event_attributes())
        if container.workload is not None:
            await container.workload.attach(attachment)
            return
        for waiting in [kept for kept in container.pending_attachments if _is_hung_up(kept.fd)]:
            container.pending_attachments.remove(waiting)
            os.close(waiting.fd)
        container.pending_attachments.append(attachment)

    async def attach_websocket(self, request: web.Request) -> web.StreamResponse:
        """One binary message per block, unframed, as browsers' terminals expect."""
        container = self._container(request)
        _check_attachable(container)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        response = web.WebSocketResponse()
        await response.prepare(request)
        await self._deliver(
            container,
            Attachment(
                fd=theirs.detach(),
                stdin=flag(request, "stdin", True) and container.config.open_stdin,
                stdout=flag(request, "stdout", True),
                stderr=flag(request, "stderr", True),
                detach_keys=parse_detach_keys(request.query.get("detachKeys", "")),
                framed=False,
            ),
        )
        with ours:
            await _pump_websocket(response, ours)
        return response

    async def logs(self, request: web.Request) -> web.StreamResponse:
        container = self._container(request)
        query = _log_query(request, framed=not container.config.tty)
        log = container.host.log_config
        if log is not None and log.type == "none":
            raise NotSupported("configured logging driver does not support reading")
        response = web.StreamResponse(
            headers={"Content-Type": MULTIPLEXED_STREAM if query.framed else RAW_STREAM}
        )
        await response.prepare(request)
        reader = LogReader(container.log_path, query)
        try:
            blocks = reader.history()
            while (block := await asyncio.to_thread(next, blocks, None)) is not None:
                await response.write(block)
            if flag(request, "follow"):
                async for block in follow_log(container, reader):
                    await response.write(block)
        finally:
            reader.close()
        await response.write_eof()
        return response


def _check_attachable(container: Container) -> None:
    if container.paused:
        raise Conflict(f"container {container.id} is paused, unpause the container before attach")
    if container.state.status == Status.RESTARTING:
        raise Conflict(f"container {container.id} is restarting, wait until the container is running")


def _wants_multiplexed(request: web.Request, framed: bool) -> bool:
    return framed and MULTIPLEXED_STREAM in request.headers.get("Accept", MULTIPLEXED_STREAM)


def _replay(fd: int, container: Container, query: LogQuery) -> None:
    reader = LogReader(container.log_path, query)
    os.set_blocking(fd, True)
    try:
        for block in reader.history():
            _write_all(fd, block)
    except ConnectionError:
        return
    finally:
        reader.close()
        os.set_blocking(fd, False)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _is_hung_up(fd: int) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLHUP)
    return bool(poller.poll(0))


def _log_query(request: web.Request, framed: bool) -> LogQuery:
    stdout, stderr = flag(request, "stdout"), flag(request, "stderr")
    if not stdout and not stderr:
        raise InvalidParameter("Bad parameters: you must choose at least one stream")
    tail = request.query.get("tail", "all")
    return LogQuery(
        stdout=stdout,
        stderr=stderr,
        since_ns=_moment(request.query.get("since")),
        until_ns=_moment(request.query.get("until")),
        tail=int(tail) if tail.isdecimal() else -1,
        timestamps=flag(request, "timestamps"),
        details=flag(request, "details"),
        framed=framed,
    )


def _moment(text: str | None) -> int:
    return parse_timestamp(text) if text and text != "0" else 0


async def _pump_websocket(response: web.WebSocketResponse, stream: socket.socket) -> None:
    loop = asyncio.get_running_loop()

    async def to_container() -> None:
        async for message in response:
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                data = message.data.encode() if isinstance(message.data, str) else message.data
                await loop.sock_sendall(stream, data)
        stream.shutdown(socket.SHUT_WR)

    async def to_client() -> None:
        while data := await loop.sock_recv(stream, STREAM_BYTES):
            await response.send_bytes(data)
        await response.close()

    await asyncio.gather(to_container(), to_client(), return_exceptions=True)
