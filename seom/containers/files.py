"""The daemon's side of a container's files: one short-lived program for each request.

See containers/archive.py for the program and for what passes between the two.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from seom.containers.archive import KINDS, Reply, Request, View
from seom.containers.container_path import PathStat
from seom.errors import SystemFailure

CHUNK_BYTES = 1 << 18
_COMMAND = (sys.executable, "-I", "-m", "seom.containers.archive")


async def stat_path(view: View, path: str) -> PathStat:
    """Describe a path of a container. Raises NotFound, InvalidParameter, SystemFailure."""
    async with _program(Request("stat", view, path)) as process:
        return _stat(await _reply(process))


@asynccontextmanager
async def read_path(view: View, path: str) -> AsyncIterator[tuple[PathStat, AsyncIterator[bytes]]]:
    """A path's description and the chunks of its tar archive. Raises as stat_path().

    The chunks end with SystemFailure when the archive breaks off.
    """
    async with _program(Request("get", view, path)) as process:
        described = _stat(await _reply(process))
        yield described, _chunks(process)


@asynccontextmanager
async def export(view: View) -> AsyncIterator[AsyncIterator[bytes]]:
    """The chunks of a tar archive of the container's own files, without volumes. Raises SystemFailure."""
    async with _program(Request("export", view)) as process:
        await _reply(process)
        yield _chunks(process)


async def write_path(
    view: View,
    path: str,
    archive: AsyncIterator[bytes],
    owner: tuple[int, int] | None = None,
    keep_kinds: bool = False,
) -> None:
    """Extract a tar archive (plain or compressed) into a directory of a container.

    Raises NotFound, InvalidParameter, Forbidden (read-only), SystemFailure.
    """
    async with _program(Request("put", view, path, owner, keep_kinds)) as process:
        assert process.stdin is not None
        try:
            async for chunk in archive:
                process.stdin.write(chunk)
                await process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            if not process.stdin.is_closing():
                raise  # the client's connection, not the program's
        process.stdin.close()
        await _reply(process)


@asynccontextmanager
async def _program(request: Request) -> AsyncIterator[asyncio.subprocess.Process]:
    inherited = (request.view.root,) if request.view.root >= 0 else ()
    process = await asyncio.create_subprocess_exec(
        *_COMMAND,
        msgspec.json.encode(request).decode(),
        stdin=asyncio.subprocess.PIPE if request.action == "put" else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=inherited,
        limit=CHUNK_BYTES,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            try:
                process.kill()
            except ProcessLookupError:
                pass
        await process.wait()


async def _reply(process: asyncio.subprocess.Process) -> Reply:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise SystemFailure(f"the program that reads container files failed: {await _complaint(process)}")
    reply = msgspec.json.decode(line, type=Reply)
    if reply.error:
        raise KINDS[reply.error](reply.message)
    return reply


async def _chunks(process: asyncio.subprocess.Process) -> AsyncIterator[bytes]:
    assert process.stdout is not None
    while chunk := await process.stdout.read(CHUNK_BYTES):
        yield chunk
    if await process.wait():
        raise SystemFailure(f"the archive broke off: {await _complaint(process)}")


async def _complaint(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    text = (await process.stderr.read()).decode(errors="replace").strip()
    return text.rpartition("\n")[2] or f"exit code {await process.wait()}"


def _stat(reply: Reply) -> PathStat:
    assert reply.stat is not None
    return reply.stat
