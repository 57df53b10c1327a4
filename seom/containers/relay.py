"""The relay between a workload's standard streams, its log, and the clients attached to it.

    workload --stdout, stderr or terminal--> Relay --> log (exactly once, see journal)
                                                  \\--> every attached client that wants it
    clients --input--> Relay --> workload's stdin or terminal

A client that does not read holds the output back once 1 MiB waits for it, as a slow reader in a
pipeline would. When others wait because of it, it is sent away after a while.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from functools import partial

from seom.containers.connections import Connection, ConnectionOwner, InputPipe
from seom.containers.journal import CHUNK_BYTES, Journal
from seom.containers.messages import Attach, StreamOptions
from seom.containers.poller import READABLE, Poller

PATIENCE_S = 5.0
BUSY_PIPE_BYTES = 512 * 1024
_CHUNKS_AT_ONCE = 1024


class Relay(ConnectionOwner):
    """Moves bytes; sources are (descriptor, 1 for stdout or 2 for stderr)."""

    def __init__(
        self,
        poller: Poller,
        options: StreamOptions,
        sources: list[tuple[int, int]],
        stdin: int | None,
        journal: Journal | None,
        stdin_closed: Callable[[], None],
    ) -> None:
        self._poller = poller
        self._options = options
        self._journal = journal
        self._stdin_closed = stdin_closed
        self._sources = dict(sources)
        self._grown: set[int] = set()
        self._connections: list[Connection] = []
        self._stopped_since: float | None = None
        self._input: InputPipe | None = None
        if stdin is not None:
            self._input = InputPipe(poller, stdin, self._input_changed)
        for descriptor in self._sources:
            os.set_blocking(descriptor, False)
        self._watch_sources()

    # -- output

    @property
    def ended(self) -> bool:
        """Whether all output has come to its end."""
        return not self._sources

    @property
    def idle(self) -> bool:
        """Whether nobody is attached any more."""
        return not self._connections

    @property
    def backlog_bytes(self) -> int:
        """How much waits for clients that do not read."""
        return sum(connection.backlog_bytes for connection in self._connections)

    def _watch_sources(self) -> None:
        for descriptor in self._sources:
            self._poller.watch(descriptor, READABLE, partial(self._on_output, descriptor))

    def _on_output(self, source: int, _: int) -> None:
        self._pump(source)

    def _pump(self, source: int) -> bool:
        """Pass one chunk on; False when there is none now."""
        stream = self._sources.get(source)
        if stream is None:
            return False
        try:
            if self._journal is not None:
                data = self._journal.pump(source, stream)
            else:
                data = os.read(source, CHUNK_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # a terminal whose last user has gone: EIO
        if not data:
            self._poller.forget(source)
            del self._sources[source]
            return False
        if len(data) == CHUNK_BYTES and source not in self._grown:
            self._grow(source)
        for connection in list(self._connections):
            connection.send(stream, data)
        self._hold_back_if_congested()
        return True

    def _grow(self, source: int) -> None:
        """Give a busy pipe more room, so that its writer need not wait for each chunk."""
        self._grown.add(source)
        try:
            fcntl.fcntl(source, fcntl.F_SETPIPE_SZ, BUSY_PIPE_BYTES)
        except OSError:
            pass  # a terminal, or the host's limit for pipes

    def _hold_back_if_congested(self) -> None:
        congested = any(connection.congested for connection in self._connections)
        if congested and self._stopped_since is None:
            self._stopped_since = time.monotonic()
            for descriptor in self._sources:
                self._poller.forget(descriptor)
        elif not congested and self._stopped_since is not None:
            self._stopped_since = None
            self._watch_sources()

    def drain(self) -> None:
        """Take what is in the pipes at this moment, whoever is too slow for it."""
        for source in list(self._sources):
            for _ in range(_CHUNKS_AT_ONCE):
                if not self._pump(source):
                    break

    def timeout_ms(self) -> int | None:
        """After how long tick() should be called; None: there is no need."""
        if self._stopped_since is None or len(self._connections) < 2:
            return None
        return max(0, int((self._stopped_since + PATIENCE_S - time.monotonic()) * 1000)) + 1

    def tick(self) -> None:
        """Send a client away that has kept others waiting for too long."""
        if self.timeout_ms() == 1:
            for connection in [one for one in self._connections if one.congested]:
                connection.close()
            self._hold_back_if_congested()

    # -- clients

    def attach(self, descriptor: int, wanted: Attach) -> None:
        """Serve one more client; its socket is owned from now on."""
        if self._input is None and wanted.stdin:
            wanted = Attach(False, wanted.stdout, wanted.stderr, wanted.framed)
        connection = Connection(self, self._poller, descriptor, wanted)
        self._connections.append(connection)
        if wanted.stdin and wanted.early_input:
            connection.take_input(wanted.early_input)
        if self.ended:
            connection.finish()

    def finish(self) -> None:
        """No more output: let every client go when it has been sent everything."""
        for descriptor in self._sources:
            self._poller.forget(descriptor)
        self._sources.clear()
        if self._journal is not None:
            self._journal.finish()
        for connection in list(self._connections):
            connection.finish()

    def hang_up(self) -> None:
        """Send every client away at once, and close the input."""
        for connection in list(self._connections):
            connection.close()
        for descriptor in self._sources:
            self._poller.forget(descriptor)
        self._sources.clear()
        if self._input is not None:
            self._input.abandon()

    # -- what connections tell

    def input_came(self, data: bytes) -> None:
        if self._input is not None:
            self._input.write(data)
            self._input_changed()

    def input_ended(self, connection: Connection) -> None:
        if self._options.stdin_once and not self._options.tty:
            if self._input is not None:
                self._input.end()
        else:
            connection.finish()

    def connection_drained(self, connection: Connection) -> None:
        self._hold_back_if_congested()
        if self._stopped_since is not None:
            self._stopped_since = time.monotonic()

    def connection_closed(self, connection: Connection) -> None:
        if connection in self._connections:
            self._connections.remove(connection)
        self._hold_back_if_congested()

    def _input_changed(self) -> None:
        assert self._input is not None
        for connection in self._connections:
            connection.pause_reading(self._input.full)
        if self._input.closed:
            self._stdin_closed()
