"""Clients attached to a workload: what they are sent, what they send, and when they leave."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable

from seom.containers.messages import Attach
from seom.containers.poller import GONE, READABLE, WRITABLE, Poller

BACKLOG_BYTES = 1024 * 1024
_READ_BYTES = 64 * 1024
_HEADER = struct.Struct(">BxxxI")


class Connection:
    """One attached client.

    Output goes straight to its socket; what the socket does not take is kept, and above 1 MiB of
    that the connection is congested: its owner then stops reading the workload's output.
    """

    def __init__(self, owner: ConnectionOwner, poller: Poller, descriptor: int, wanted: Attach) -> None:
        self._owner = owner
        self._poller = poller
        self._socket = socket.socket(fileno=descriptor)
        self.wanted = wanted
        self.reading = wanted.stdin
        self._paused = False
        self._closing = False
        self._backlog: list[memoryview] = []
        self.backlog_bytes = 0
        self._matched_keys = 0
        self._watch()

    @property
    def congested(self) -> bool:
        """Whether the client should first read what it has been sent."""
        return self.backlog_bytes > BACKLOG_BYTES

    def send(self, stream: int, data: bytes) -> None:
        """Send output of stream 1 or 2, if the client wants it."""
        if self._closing or not (self.wanted.stdout if stream == 1 else self.wanted.stderr):
            return
        if self.wanted.framed:
            data = _HEADER.pack(stream, len(data)) + data
        view = memoryview(data)
        if not self._backlog:
            view = view[self._write(view) :]
        if view and not self._closing:
            self._backlog.append(view)
            self.backlog_bytes += len(view)
            self._watch()

    def pause_reading(self, paused: bool) -> None:
        """Leave the client's input where it is, or go on reading it."""
        if self._paused != paused:
            self._paused = paused
            self._watch()

    def finish(self) -> None:
        """Close as soon as everything has been sent."""
        self._closing = True
        self.reading = False
        if self._backlog:
            self._watch()
        else:
            self.close()

    def close(self) -> None:
        """Hang up."""
        self._closing = True
        self._backlog.clear()
        self.backlog_bytes = 0
        descriptor = self._socket.fileno()
        if descriptor < 0:
            return
        self._poller.forget(descriptor)
        try:
            # Copies of the descriptor in other processes must not keep the client waiting, and input
            # that nobody read would turn the end of the stream into "connection reset".
            self._socket.shutdown(socket.SHUT_RDWR)
            while self._socket.recv(_READ_BYTES, socket.MSG_DONTWAIT):
                pass
        except OSError:
            pass
        self._socket.close()
        self._owner.connection_closed(self)

    def _watch(self) -> None:
        if self._socket.fileno() >= 0:
            events = READABLE if self.reading and not self._paused else 0
            self._poller.watch(
                self._socket.fileno(), events | (WRITABLE if self._backlog else 0), self._on_events
            )

    def _write(self, view: memoryview) -> int:
        try:
            return self._socket.send(view, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return 0
        except OSError:
            self.close()
            return 0

    def _on_events(self, events: int) -> None:
        if events & WRITABLE and self._backlog:
            self._drain()
        if events & READABLE and self.reading:
            self._read()
        elif events & GONE:
            if self.reading:
                self._end_input()
            self.close()

    def _drain(self) -> None:
        while self._backlog:
            sent = self._write(self._backlog[0])
            if not self._backlog:
                return  # closed
            self.backlog_bytes -= sent
            if sent < len(self._backlog[0]):
                self._backlog[0] = self._backlog[0][sent:]
                break
            del self._backlog[0]
        self._owner.connection_drained(self)
        if not self._backlog:
            if self._closing:
                self.close()
            else:
                self._watch()

    def _read(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.take_input(data)
        else:
            self._end_input()

    def _end_input(self) -> None:
        self.reading = False
        self._watch()
        self._owner.input_ended(self)

    def take_input(self, data: bytes) -> None:
        """Hand the client's input on, up to its detach keys."""
        if not self.wanted.detach_keys:
            self._owner.input_came(data)
            return
        data, detached = self._without_detach_keys(data)
        if data:
            self._owner.input_came(data)
        if detached:
            self.reading = False
            self.finish()

    def _without_detach_keys(self, data: bytes) -> tuple[bytes, bool]:
        """What may be passed on, and whether the keys are complete; a possible beginning is held back."""
        keys = self.wanted.detach_keys
        passed = bytearray()
        for byte in data:
            if byte == keys[self._matched_keys]:
                self._matched_keys += 1
                if self._matched_keys == len(keys):
                    return bytes(passed), True
                continue
            passed += keys[: self._matched_keys]
            self._matched_keys = 1 if byte == keys[0] else 0
            if not self._matched_keys:
                passed.append(byte)
        return bytes(passed), False


class ConnectionOwner:
    """What a connection tells its owner."""

    def input_came(self, data: bytes) -> None:
        """The client has typed."""

    def input_ended(self, connection: Connection) -> None:
        """The client will send nothing more."""

    def connection_drained(self, connection: Connection) -> None:
        """The client has read some of its backlog."""

    def connection_closed(self, connection: Connection) -> None:
        """The client has gone, or was sent away."""


class InputPipe:
    """The writing end of a workload's standard input, or of its terminal."""

    def __init__(self, poller: Poller, descriptor: int, changed: Callable[[], None]) -> None:
        """changed is called when room has come back, and when the reader has gone."""
        self._poller = poller
        self._descriptor = descriptor
        self._changed = changed
        self._waiting = bytearray()
        self._ending = False
        self.closed = False
        os.set_blocking(descriptor, False)

    @property
    def full(self) -> bool:
        """Whether input waits for the workload to read."""
        return bool(self._waiting)

    def write(self, data: bytes) -> None:
        """Pass input on, now or later; input for a reader that has gone is dropped."""
        if self.closed or self._ending:
            return
        self._waiting += data
        self._flush()

    def end(self) -> None:
        """Close after what is waiting."""
        self._ending = True
        if not self._waiting:
            self._close()

    def abandon(self) -> None:
        """Close at once."""
        self._waiting.clear()
        self._close()

    def _flush(self, _: int = 0) -> None:
        was_full = self.full
        try:
            while self._waiting:
                del self._waiting[: os.write(self._descriptor, self._waiting)]
        except BlockingIOError:
            self._poller.watch(self._descriptor, WRITABLE, self._flush)
            return
        except OSError:
            self._waiting.clear()
            self._close()
            return
        self._poller.forget(self._descriptor)
        if self._ending:
            self._close()
        elif was_full:
            self._changed()

    def _close(self) -> None:
        if not self.closed:
            self.closed = True
            self._poller.forget(self._descriptor)
            os.close(self._descriptor)
            self._changed()
