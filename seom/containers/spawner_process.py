"""The daemon's handle on the spawner: starts it, sends it orders, starts it again when it has died."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys

from seom.containers import messages
from seom.containers.messages import Order

# An editable installation is found by a hook of the site module, which the spawner does not load.
_PACKAGE_PARENT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_MAIN = "from seom.containers.spawner import main; main()"


class SpawnerProcess:
    """One spawner at a time, started when it is first needed."""

    def __init__(self) -> None:
        self._orders: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._sending = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The running spawner's process number."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the spawner unless it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        self._forget()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {
            "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            "PYTHONPATH": os.pathsep.join([_PACKAGE_PARENT, *filter(None, sys.path)]),
            "PYTHONUTF8": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-c", _place_descriptor(theirs.fileno()) + _MAIN],
                env=environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        ours.setblocking(False)
        self._orders = ours

    async def send(self, order: Order, descriptors: list[int]) -> None:
        """Send an order to a living spawner. Raises OSError when none can be started."""
        async with self._sending:
            for attempt in (1, 2):
                self.start()
                try:
                    await self._send(order, descriptors)
                except (BrokenPipeError, ConnectionError):
                    # It has just died: wait until that is known, and take another.
                    await self._wait()
                    if attempt == 2:
                        raise
                else:
                    return

    async def _send(self, order: Order, descriptors: list[int]) -> None:
        assert self._orders is not None
        while True:
            try:
                messages.send(self._orders, order, descriptors)
            except BlockingIOError:
                await _writable(self._orders)
            else:
                return

    async def stop(self) -> None:
        """End the spawner; monitors and workloads go on."""
        if self._orders is not None:
            self._orders.close()
        await self._wait()
        self._forget()

    async def _wait(self) -> None:
        if self._process is not None:
            await asyncio.to_thread(self._process.wait)

    def _forget(self) -> None:
        if self._orders is not None:
            self._orders.close()
        self._orders = self._process = None


def _place_descriptor(number: int) -> str:
    """Code that moves the inherited descriptor to where the spawner expects it."""
    return f"import os; os.dup2({number}, 3); {number} == 3 or os.close({number}); "


async def _writable(channel: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_writer(channel.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(channel.fileno())
