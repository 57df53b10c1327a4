"""The conversation with a container: stdin out, stdout and stderr in, signals and sizes beside.

    stdin (fd 0) --read--> [detach keys] --send--> hijacked socket --> monitor --> workload
    stdout, stderr <--write-- [8-byte frames]  <--recv-- hijacked socket

One poll loop does all of it. The socket does not block, so that a container that writes without
reading, or the other way round, never stops the other direction.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import os
import select

from seom.cli import output
from seom.cli.errors import Exit
from seom.cli.terminal import DetachFilter, RawMode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_READ_BYTES = 65536
_PENDING_LIMIT = 262144
_ENDING = frozenset((_signal.SIGTERM, _signal.SIGHUP))
# Not forwarded: what cannot be caught, what concerns only this process, and its own faults.
_KEPT = frozenset(
    (
        *(
            _signal.SIGKILL,
            _signal.SIGSTOP,
            _signal.SIGCHLD,
            _signal.SIGPIPE,
            _signal.SIGURG,
            _signal.SIGWINCH,
        ),
        *(_signal.SIGSEGV, _signal.SIGBUS, _signal.SIGFPE, _signal.SIGILL, _signal.SIGABRT, _signal.SIGTRAP),
        *(_signal.SIGSYS, 32, 33),
    )
)


class Detached(Exception):
    """The user pressed the detach keys."""


class Demultiplexer:
    """Cuts a stream into frames: stream number (1, 2), three zero bytes, length, payload."""

    def __init__(self, stdout: bool = True, stderr: bool = True) -> None:
        self._descriptors = {0: 1 if stdout else -1, 1: 1 if stdout else -1, 2: 2 if stderr else -1}
        self._header = b""
        self._left = 0
        self._descriptor = -1

    def feed(self, data: bytes) -> None:
        """Write the payloads in data to stdout and stderr."""
        view = memoryview(data)
        while view:
            if self._left:
                piece = view[: self._left]
                if self._descriptor >= 0:
                    output.write_bytes(piece, self._descriptor)
                self._left -= len(piece)
                view = view[len(piece) :]
                continue
            missing = 8 - len(self._header)
            self._header += bytes(view[:missing])
            view = view[missing:]
            if len(self._header) == 8:
                self._descriptor = self._descriptors.get(self._header[0], 2)
                self._left = int.from_bytes(self._header[4:], "big")
                self._header = b""


class SignalPipe:
    """Signals as bytes on a descriptor, for the poll loop; the former handlers come back at the end."""

    def __init__(self, signals: frozenset[int]) -> None:
        self._signals = signals
        self._former: dict[int, object] = {}
        self.descriptor, self._writer = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._writer, False)

    def __enter__(self) -> SignalPipe:
        _signal.set_wakeup_fd(self._writer)
        for number in self._signals:
            try:
                self._former[number] = _signal.signal(number, lambda *_: None)
            except (OSError, ValueError):
                continue
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            _signal.signal(number, handler if handler is not None else _signal.SIG_DFL)
        _signal.set_wakeup_fd(-1)
        os.close(self.descriptor)
        os.close(self._writer)

    def read(self) -> bytes:
        """The numbers of the signals that came."""
        try:
            return os.read(self.descriptor, 256)
        except BlockingIOError:
            return b""


def forwarded_signals() -> frozenset[int]:
    """Every signal that --sig-proxy passes on to the container's process."""
    return frozenset(range(1, _signal.NSIG)) - _KEPT


class Session:
    """One attachment to a container or to a process inside one.

    tty: the stream is raw, without frames. stdin: pass standard input on. on_resize is called
    when the terminal's size changes, on_signal with each signal's number (None: not forwarded).
    """

    def __init__(
        self,
        connection: _socket.socket,
        early: bytes,
        *,
        tty: bool,
        stdin: bool,
        stdout: bool = True,
        stderr: bool = True,
        detach_keys: bytes = b"",
        on_resize: Callable[[], None] | None = None,
        on_signal: Callable[[int], None] | None = None,
    ) -> None:
        self._connection = connection
        self._early = early
        self._stdin = stdin
        self._pending = b""
        self._half_closed = False
        self._interactive = tty and stdin and os.isatty(0)
        self._filter = DetachFilter(detach_keys if self._interactive else b"")
        self._on_resize = on_resize if tty else None
        self._on_signal = on_signal
        frames = Demultiplexer(stdout, stderr)
        self._receive: Callable[[bytes], None] = output.write_bytes if tty else frames.feed

    def run(self, begin: Callable[[], None] | None = None) -> None:
        """Call begin, then copy until the container closes the stream. Raises Detached, and begin's errors.

        What starts the container goes into begin: the terminal is raw and signals are caught
        before, so that none falls between the start and the conversation.
        """
        if self._interactive:
            with RawMode(0):
                self._run(begin)
        else:
            self._run(begin)

    def _run(self, begin: Callable[[], None] | None) -> None:
        signals = _ENDING
        if self._on_resize is not None:
            signals |= {_signal.SIGWINCH}
        if self._on_signal is not None:
            signals |= forwarded_signals()
        with SignalPipe(signals) as pipe:
            if begin is not None:
                begin()
            self._loop(pipe)

    def _loop(self, pipe: SignalPipe) -> None:
        self._connection.setblocking(False)
        if self._early:
            self._receive(self._early)
        poll = select.poll()
        poll.register(pipe.descriptor, select.POLLIN)
        poll.register(self._connection.fileno(), select.POLLIN)
        reads_stdin = False
        while True:
            wants_stdin = self._stdin and len(self._pending) < _PENDING_LIMIT
            if wants_stdin != reads_stdin:
                self._watch_stdin(poll, wants_stdin)
                reads_stdin = wants_stdin and self._stdin
            poll.modify(self._connection.fileno(), select.POLLIN | (select.POLLOUT if self._pending else 0))
            for descriptor, events in poll.poll():
                if descriptor == pipe.descriptor:
                    self._handle_signals(pipe.read())
                elif descriptor == 0:
                    self._read_stdin()
                elif not self._exchange(events):
                    return

    def _watch_stdin(self, poll: select.poll, wanted: bool) -> None:
        if not wanted:
            poll.unregister(0)
            return
        try:
            os.fstat(0)
            poll.register(0, select.POLLIN)
        except OSError:
            self._stdin = False
            self._close_writing()

    def _exchange(self, events: int) -> bool:
        """Move bytes between the socket and this side; False when the container is done."""
        if events & select.POLLOUT and self._pending:
            self._flush()
        if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
            try:
                data = self._connection.recv(_READ_BYTES)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not data:
                return False
            self._receive(data)
        return True

    def _read_stdin(self) -> None:
        try:
            typed = os.read(0, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            typed = b""
        if not typed:
            self._stdin = False
            self._close_writing()
            return
        passed, detached = self._filter.feed(typed)
        self._pending += passed
        self._flush()
        if detached:
            raise Detached

    def _flush(self) -> None:
        try:
            sent = self._connection.send(self._pending, _socket.MSG_NOSIGNAL) if self._pending else 0
        except BlockingIOError:
            return
        except OSError:
            self._pending, self._stdin = b"", False
            return
        self._pending = self._pending[sent:]
        if not self._pending and not self._stdin:
            self._close_writing()

    def _close_writing(self) -> None:
        """Tell the container that stdin has ended, once everything was sent."""
        if self._pending or self._half_closed:
            return
        self._half_closed = True
        try:
            self._connection.shutdown(_socket.SHUT_WR)
        except OSError:
            pass

    def _handle_signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number == _signal.SIGWINCH and self._on_resize is not None:
                self._on_resize()
            elif self._on_signal is not None:
                self._on_signal(number)
            elif number in _ENDING:
                raise Exit(128 + number)
