"""The HTTP server: listeners, version prefix, errors to status codes.

Clients prefix paths with /vX.Y; the prefix is optional and stripped before routing. This module is
the only place where a kind of error becomes an HTTP status.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from aiohttp import web

from seom import errors
from seom.api import API_VERSION, MIN_API_VERSION
from seom.api.query import ASKED_VERSION

log = logging.getLogger(__name__)

_VERSION_PREFIX = re.compile(r"/v(\d+)\.(\d+)(?=/)")

_STATUS: list[tuple[type[Exception], int]] = [
    (errors.InvalidParameter, 400),
    (errors.Unauthorized, 401),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.NotModified, 304),
    (errors.Unavailable, 503),
    (errors.NotSupported, 501),
    (errors.Cancelled, 499),
    (errors.SystemFailure, 500),
    (msgspec.ValidationError, 400),
    (msgspec.DecodeError, 400),
]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def status_of(error: Exception) -> int:
    """The HTTP status for an error; 500 for what nobody foresaw."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def error_response(status: int, message: str) -> web.Response:
    """Docker's error document."""
    if status == 304:
        return web.Response(status=304)
    return web.Response(
        status=status, body=msgspec.json.encode({"message": message}), content_type="application/json"
    )


def describe(error: Exception) -> str:
    """An error's text for the user."""
    if isinstance(error, msgspec.MsgspecError):
        return f"invalid JSON: {error}"
    if isinstance(error, OSError):
        return f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
    return str(error) or type(error).__name__


@web.middleware
async def _errors_to_responses(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        response = await handler(request)
    except web.HTTPNotFound:
        return error_response(404, "page not found")
    except web.HTTPMethodNotAllowed:
        return error_response(405, f"{request.method} is not allowed here")
    except web.HTTPException as error:
        return error_response(error.status, error.text or error.reason)
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception as error:
        status = status_of(error)
        if status == 500 and not isinstance(error, errors.SeomError):
            log.exception("%s %s failed", request.method, request.path)
        return error_response(status, describe(error))
    return response


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    headers = response.headers
    headers["Api-Version"] = API_VERSION
    headers["Docker-Experimental"] = "false"
    headers["Ostype"] = "linux"
    headers["Server"] = "Seom (linux)"


class _Application(web.Application):
    """Strips the version prefix before routing."""

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        match = _VERSION_PREFIX.match(request.path)
        if match:
            refusal = _refuse_version(int(match[1]), int(match[2]))
            if refusal:
                return error_response(400, refusal)
            request = request.clone(rel_url=str(request.rel_url)[match.end() :])
            request[ASKED_VERSION] = (int(match[1]), int(match[2]))
        return await super()._handle(request)


def _refuse_version(major: int, minor: int) -> str:
    asked = (major, minor)
    lowest = tuple(int(part) for part in MIN_API_VERSION.split("."))
    highest = tuple(int(part) for part in API_VERSION.split("."))
    if asked < lowest:
        return (
            f"client version {major}.{minor} is too old. Minimum supported API version is {MIN_API_VERSION}, "
            "please upgrade your client to a newer version"
        )
    if asked > highest:
        return f"client version {major}.{minor} is too new. Maximum supported API version is {API_VERSION}"
    return ""


def application(routes: list[web.RouteDef]) -> web.Application:
    """The application that serves the given routes."""
    app = _Application(middlewares=[_errors_to_responses], client_max_size=16 * 1024 * 1024)
    app.add_routes(routes)
    app.on_response_prepare.append(_add_headers)
    return app


class Server:
    """The listening sockets and the application behind them."""

    def __init__(self, routes: list[web.RouteDef]) -> None:
        self._runner = web.AppRunner(
            application(routes),
            access_log=None,
            handle_signals=False,
            shutdown_timeout=2.0,
            auto_decompress=False,
            keepalive_timeout=3630,
        )
        self._unix_paths: list[Path] = []

    async def open(self, hosts: list[str]) -> None:
        """Listen on every host: unix:///PATH or tcp://ADDRESS:PORT.

        Raises OSError when an address cannot be bound, InvalidParameter for another scheme.
        """
        await self._runner.setup()
        for host in hosts:
            scheme, _, address = host.partition("://")
            if scheme == "unix":
                sock = _bind_unix(Path(address))
                self._unix_paths.append(Path(address))
            elif scheme == "tcp":
                name, _, port = address.rpartition(":")
                sock = socket.create_server((name.strip("[]"), int(port)))
            elif scheme == "fd":
                sock = socket.socket(fileno=int(address))
            else:
                raise errors.InvalidParameter(
                    f'cannot listen on "{host}": use unix:///PATH or tcp://ADDRESS:PORT'
                )
            await web.SockSite(self._runner, sock, backlog=1024).start()

    async def close(self) -> None:
        """Stop listening, give handlers a moment, drop the rest."""
        await self._runner.cleanup()
        for path in self._unix_paths:
            path.unlink(missing_ok=True)


def _bind_unix(path: Path) -> socket.socket:
    """A listening unix socket, readable by root and the group seom or docker where one exists.

    A socket file that nobody listens on is replaced; one that answers is somebody's daemon.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        try:
            sock.connect(str(path))
        except OSError:
            path.unlink()
        else:
            raise OSError(98, "another daemon listens here; stop it or choose another --host", str(path))
        finally:
            sock.close()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    previous = os.umask(0o117)
    try:
        sock.bind(str(path))
    finally:
        os.umask(previous)
    return sock
