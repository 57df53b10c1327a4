"""The daemon's side of container files: requests to the file server, answers as streams.

See seom/containers/archive.py for what passes between the two.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from seom.containers.archive import FRAME_BYTES, KINDS, LENGTH_BYTES, Reply, Request, View
from seom.containers.container_path import PathStat
from seom.errors import SystemFailure

# An editable installation is found by a hook of the site module, which the server does not load.
_PACKAGE_PARENT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_MAIN = "from seom.containers.archive_server import main; main()"
_BUFFER_BYTES = 2 * FRAME_BYTES

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class FileServer:
    """Reads and writes the files of containers, running or not, through a helper process."""

    def __init__(self) -> None:
        self._orders: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    async def stat(self, view: View, path: str) -> PathStat:
        """Describe a path of a container. Raises NotFound, InvalidParameter, SystemFailure."""
        async with self._ask(Request("stat", view, path)) as (reader, _):
            return _stat(await _reply(reader))

    @asynccontextmanager
    async def read(self, view: View, path: str) -> AsyncIterator[tuple[PathStat, AsyncIterator[bytes]]]:
        """A path's description and the chunks of its tar archive. Raises as stat().

        The chunks end with SystemFailure when the archive breaks off.
        """
        async with self._ask(Request("get", view, path)) as (reader, _):
            yield _stat(await _reply(reader)), _chunks(reader)

    @asynccontextmanager
    async def export(self, view: View) -> AsyncIterator[AsyncIterator[bytes]]:
        """The chunks of a tar archive of a container's own files, without volumes. Raises SystemFailure."""
        async with self._ask(Request("export", view)) as (reader, _):
            await _reply(reader)
            yield _chunks(reader)

    async def write(
        self,
        view: View,
        path: str,
        archive: AsyncIterator[bytes],
        owner: tuple[int, int] | None = None,
        keep_kinds: bool = False,
    ) -> None:
        """Extract a tar archive (plain or compressed) into a directory of a container.

        Raises NotFound, InvalidParameter, Forbidden (read-only), SystemFailure.
        """
        async with self._ask(Request("put", view, path, owner, keep_kinds)) as (reader, writer):
            sending = asyncio.create_task(_feed(writer, archive))
            try:
                # A refusal comes before everything is sent: the rest is of no use then.
                await _reply(reader)
            except SystemFailure:
                failure = sending.exception() if sending.done() and not sending.cancelled() else None
                if failure is not None and not isinstance(failure, ConnectionError):
                    raise failure from None
                raise
            finally:
                sending.cancel()
                await asyncio.wait({sending})

    def close(self) -> None:
        """End the server; requests under way break off."""
        if self._orders is not None:
            self._orders.close()
            self._orders = None
        if self._process is not None:
            self._process.wait()
            self._process = None

    @asynccontextmanager
    async def _ask(self, request: Request) -> AsyncIterator[Streams]:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                descriptors = [theirs.fileno(), *([request.view.root] if request.view.root >= 0 else [])]
                self._send(msgspec.json.encode(request), descriptors)
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=_BUFFER_BYTES)
        except BaseException:
            ours.close()
            raise
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    def _send(self, message: bytes, descriptors: list[int]) -> None:
        """Hand over a request; a server that has ended meanwhile is replaced."""
        if self._orders is not None:
            try:
                socket.send_fds(self._orders, [message], descriptors)
                return
            except (BrokenPipeError, ConnectionResetError):
                self._orders.close()
        self._orders = self._start()
        socket.send_fds(self._orders, [message], descriptors)

    def _start(self) -> socket.socket:
        if self._process is not None:
            self._process.wait()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([_PACKAGE_PARENT, *filter(None, sys.path)]),
        }
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-c", _MAIN, str(theirs.fileno())],
                env=environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        return ours


async def _feed(writer: asyncio.StreamWriter, archive: AsyncIterator[bytes]) -> None:
    """Send an archive and its end; when its source fails the connection is cut, and the program ends."""
    try:
        async for chunk in archive:
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
    except BaseException:
        writer.transport.abort()
        raise


async def _reply(reader: asyncio.StreamReader) -> Reply:
    frame = await _frame(reader)
    if not frame:
        raise SystemFailure("the program that reads container files ended early; the daemon's log tells why")
    reply = msgspec.json.decode(frame, type=Reply)
    if reply.error:
        raise KINDS[reply.error](reply.message)
    return reply


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while frame := await _frame(reader):
        yield frame
    if frame is None:
        raise SystemFailure("the archive broke off; the daemon's log tells why")


async def _frame(reader: asyncio.StreamReader) -> bytes | None:
    """The next frame; None when the stream ends without one."""
    try:
        length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
        return await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return None


def _stat(reply: Reply) -> PathStat:
    assert reply.stat is not None
    return reply.stat
