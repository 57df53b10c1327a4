"""/exec and /containers/{id}/exec."""

from __future__ import annotations

import os

from aiohttp import web

from seom.api.detach_keys import parse_detach_keys
from seom.api.hijack import MULTIPLEXED_STREAM, RAW_STREAM, HandedOver, hijack
from seom.api.json_body import json_response, read_json
from seom.api.query import number
from seom.api.server import error_response, status_of
from seom.containers.config import ApiStruct
from seom.containers.runtime import Attachment
from seom.engine.engine import Engine
from seom.engine.execs import Exec, ExecConfig


class ExecStart(ApiStruct):
    """The body of POST /exec/{id}/start."""

    detach: bool = False
    tty: bool = False
    console_size: list[int] | None = None


def routes(engine: Engine) -> list[web.RouteDef]:
    """The handlers of this module."""
    handlers = ExecHandlers(engine)
    return [
        web.post("/containers/{id}/exec", handlers.create),
        web.post("/exec/{id}/start", handlers.start),
        web.post("/exec/{id}/resize", handlers.resize),
        web.get("/exec/{id}/json", handlers.inspect, allow_head=False),
    ]


class ExecHandlers:
    """Decode, call the engine, encode."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def create(self, request: web.Request) -> web.Response:
        container = self._engine.containers.get(request.match_info["id"])
        config = await read_json(request, ExecConfig)
        parse_detach_keys(config.detach_keys)
        return json_response({"Id": self._engine.execs.create(container, config).id}, status=201)

    async def start(self, request: web.Request) -> web.StreamResponse:
        exec = self._engine.execs.get(request.match_info["id"])
        body = await read_json(request, ExecStart, required=False)
        rows, columns = (body.console_size or exec.config.console_size or [0, 0])[:2]
        if body.detach:
            await self._engine.execs.start(exec, list, rows, columns)
            return web.Response()
        kept: list[int] = []

        def attach() -> list[Attachment]:
            attachment = _attachment(request, exec)
            kept.append(os.dup(attachment.fd))
            return [attachment]

        try:
            await self._engine.execs.start(exec, attach, rows, columns)
        except Exception as error:
            if not kept:
                return error_response(status_of(error), str(error))
            _tell(kept[0], str(error), framed=not exec.config.tty)
        finally:
            for fd in kept:
                os.close(fd)
        return HandedOver()

    async def resize(self, request: web.Request) -> web.Response:
        exec = self._engine.execs.get(request.match_info["id"])
        await self._engine.execs.resize(exec, number(request, "h"), number(request, "w"))
        return web.Response()

    async def inspect(self, request: web.Request) -> web.Response:
        exec = self._engine.execs.get(request.match_info["id"])
        await self._engine.execs.settle(exec)
        config = exec.config
        argv = config.cmd or [""]
        return json_response(
            {
                "ID": exec.id,
                "Running": exec.running,
                "ExitCode": exec.exit_code,
                "ProcessConfig": {
                    "tty": config.tty,
                    "entrypoint": argv[0],
                    "arguments": argv[1:],
                    "privileged": config.privileged,
                    "user": config.user,
                },
                "OpenStdin": config.attach_stdin,
                "OpenStderr": config.attach_stderr,
                "OpenStdout": config.attach_stdout,
                "CanRemove": exec.exit_code is not None,
                "ContainerID": exec.container.id,
                "DetachKeys": "",
                "Pid": exec.workload.pid if exec.workload else 0,
            }
        )


def _attachment(request: web.Request, exec: Exec) -> Attachment:
    config = exec.config
    framed = not config.tty
    fd, early = hijack(request, MULTIPLEXED_STREAM if framed else RAW_STREAM)
    return Attachment(
        fd=fd,
        stdin=config.attach_stdin,
        stdout=config.attach_stdout,
        stderr=config.attach_stderr,
        detach_keys=parse_detach_keys(config.detach_keys),
        early_input=early,
        framed=framed,
    )


def _tell(fd: int, message: str, framed: bool) -> None:
    """The connection is a stream already: the error goes the way of the output, as Docker's does."""
    text = f"{message}\r\n".encode()
    header = b"\x01\0\0\0" + len(text).to_bytes(4, "big") if framed else b""
    try:
        os.write(fd, header + text)
    except OSError:
        return
