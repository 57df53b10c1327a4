"""The daemon's handle on the spawner: starts it, sends it orders, starts it again when it has died."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import subprocess
import sys
import time
from contextlib import ExitStack

from seom.containers import channel
from seom.containers.messages import Adopt, Exec, Order, Start
from seom.linux import mount as mnt
from seom.linux.libc import AT_FDCWD

# An editable installation is found by a hook of the site module, which the spawner does not load.
_PACKAGE_PARENT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_KINDS: tuple[type[Order | Adopt], ...] = (Start, Exec, Adopt)  # in the order of main's arguments
_SHORT_LIFE_S = 1.0
_MAIN = "from seom.containers.spawner import main; main()"


class SpawnerProcess:
    """One spawner at a time, started when it is first needed."""

    def __init__(self) -> None:
        self._channels: dict[type[Order | Adopt], socket.socket] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._sending = asyncio.Lock()
        self._started_at = 0.0
        self._workload_descriptors = _raise_descriptor_limit()

    @property
    def pid(self) -> int | None:
        """The running spawner's process number."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the spawner unless it runs."""
        if self.running:
            return
        self._close_sockets()
        pairs = {kind: socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for kind in _KINDS}
        environment = {
            "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            "PYTHONPATH": os.pathsep.join([_PACKAGE_PARENT, *filter(None, sys.path)]),
            "PYTHONUTF8": "1",
        }
        inherited = [theirs.fileno() for _, theirs in pairs.values()]
        with ExitStack() as stack:
            for _, theirs in pairs.values():
                stack.enter_context(theirs)
            executable = sys.executable
            interpreter = _open_readonly(executable)
            if interpreter is not None:
                stack.callback(os.close, interpreter)
                executable = f"/proc/self/fd/{interpreter}"
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-c", _MAIN, *map(str, inherited), str(self._workload_descriptors)],
                executable=executable,
                env=environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=inherited if interpreter is None else [*inherited, interpreter],
                start_new_session=True,
            )
        for kind, (ours, _) in pairs.items():
            ours.setblocking(False)
            self._channels[kind] = ours
        self._started_at = time.monotonic()
        asyncio.get_running_loop().add_reader(self._channels[Adopt].fileno(), self._on_gone)

    @property
    def running(self) -> bool:
        """Whether the spawner lives."""
        return bool(self._channels) and self._process is not None and self._process.poll() is None

    async def send(self, order: Order | Adopt, descriptors: list[int]) -> None:
        """Send an order to a living spawner. Raises OSError when none can be started."""
        async with self._sending:
            for attempt in (1, 2):
                self.start()
                try:
                    await channel.send(self._channels[type(order)], order, descriptors)
                except OSError:
                    # It has just died: take another.
                    self._close_sockets()
                    if attempt == 2:
                        raise
                else:
                    return

    async def stop(self) -> None:
        """End the spawner; monitors and workloads go on."""
        self._close_sockets()
        await self._wait()
        self._process = None

    async def _wait(self) -> None:
        if self._process is not None:
            await asyncio.to_thread(self._process.wait)

    def _on_gone(self) -> None:
        """It has died: have another one ready, unless it dies as soon as it is started."""
        self._close_sockets()
        if time.monotonic() - self._started_at > _SHORT_LIFE_S:
            self.start()

    def _close_sockets(self) -> None:
        if Adopt in self._channels:
            asyncio.get_running_loop().remove_reader(self._channels[Adopt].fileno())
        for ours in self._channels.values():
            ours.close()
        self._channels.clear()


def _open_readonly(program: str) -> int | None:
    """A descriptor of program on a read-only mount of its own; None where mounting is not allowed.

    A container's root can reach the interpreter it was forked from as /proc/PID/exe, or have itself
    executed as /proc/self/exe; on this mount it cannot open it for writing.
    """
    try:
        descriptor = mnt.open_tree(AT_FDCWD, os.path.realpath(program), mnt.OPEN_TREE_CLONE)
    except OSError:
        return None
    try:
        mnt.mount_setattr(descriptor, "", attr_set=mnt.MOUNT_ATTR_RDONLY)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _raise_descriptor_limit() -> int:
    """Let this process open as many files as it may: seven for each container. Returns the limit before.

    Workloads keep the old one, for which the host's administrator chose it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft
