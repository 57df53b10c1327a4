"""Output on its way from a pipe to the log file, kept so that a monitor's death loses and doubles nothing.

    workload's pipe --splice--> staging pipe --read--> chunk in shared memory --write--> log file

The staging pipe's ends are also held by the daemon, and the memory is a file of the run directory:
whatever is taken out of the workload's pipe outlives the monitor at every step. The memory says how
far things have come:

    byte 0                which of the two states counts
    state, twice          done (number of the last finished chunk), offset (how much of the next one is
                          finished), the log's inode and size after that, and both unfinished lines
    chunk                 number, stream, length, bytes

A state is written beside the one that counts, then byte 0 is changed: a kill finds the old or the new
one, never half of each. A replacement monitor cuts the log back to the size in the state and writes
the rest of the chunk again.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import struct
import termios
import time

from seom.containers.log_writer import PARTIAL_BYTES, LogWriter, long_line_at

CHUNK_BYTES = 64 * 1024
_STATE = struct.Struct("@6Q")  # done, offset, inode, size, bytes of stdout's and stderr's unfinished lines
_CHUNK = struct.Struct("@3Q")  # number, stream, length
_STATE_BYTES = _STATE.size + 2 * PARTIAL_BYTES
_STATES_AT = 64
_CHUNK_AT = _STATES_AT + 2 * _STATE_BYTES
_DATA_AT = _CHUNK_AT + _CHUNK.size
_SIZE = _DATA_AT + CHUNK_BYTES


class Journal:
    """Takes output from pipes and logs it exactly once."""

    def __init__(self, path: str, log: LogWriter, staging: tuple[int, int]) -> None:
        """Open the journal of a running workload at path, or begin one; staging is a pipe."""
        self._log = log
        self._read_end, self._write_end = staging
        self._direct = False
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(descriptor, _SIZE)
        self._memory = mmap.mmap(descriptor, _SIZE)
        self._memory.madvise(mmap.MADV_RANDOM)  # no pages beyond those used
        os.close(descriptor)
        self._data = memoryview(self._memory)[_DATA_AT:]
        self._done, self._offset, self._inode, self._log_size, *lengths = self._load()
        self._lines = self._load_lines(lengths)

    # -- what the monitor does

    def recover(self) -> None:
        """Finish what an earlier monitor had begun."""
        inode, size = self._log.position()
        if self._inode == 0:
            pass  # nothing was ever logged
        elif inode == self._inode:
            self._log.truncate(min(size, self._log_size))
        else:
            self._log.truncate(0)  # begun by a rotation that was not recorded any more
        number, stream, length = _CHUNK.unpack_from(self._memory, _CHUNK_AT)
        staged = self._staged_bytes()
        if number == self._done + 1:
            if staged:
                self._read_staged(length - staged, staged)
            self._log_chunk(stream, length)
        elif staged:
            self._take(stream, staged)

    def pump(self, source: int, stream: int) -> bytes:
        """Move one chunk from source into the log: its bytes, b"" at the end of the stream.

        Raises BlockingIOError when there is nothing to read. What cannot be logged, because the
        disk is full, is left out of the log.
        """
        _CHUNK.pack_into(self._memory, _CHUNK_AT, 0, stream, 0)
        if self._direct:
            moved = os.readv(source, [self._data])
            _CHUNK.pack_into(self._memory, _CHUNK_AT, self._done + 1, stream, moved)
            return self._log_chunk(stream, moved)
        try:
            moved = os.splice(source, self._write_end, CHUNK_BYTES, flags=os.SPLICE_F_NONBLOCK)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._direct = True  # a terminal, on a kernel that cannot splice from it
            return self.pump(source, stream)
        return self._take(stream, moved) if moved else b""

    def finish(self) -> None:
        """Log unfinished lines, at the end of all output."""
        for stream in (1, 2):
            line = self._lines[stream - 1]
            if line:
                self._log.write(self._log.format(stream, line, time.time_ns()))
                self._lines[stream - 1] = b""
        self._commit(self._done, 0)

    def reopen(self) -> None:
        """Go on in a new file, after somebody else moved the log."""
        self._log.reopen()
        self._commit(self._done, self._offset)

    # -- one chunk

    def _staged_bytes(self) -> int:
        return int(struct.unpack("i", fcntl.ioctl(self._read_end, termios.FIONREAD, bytes(4)))[0])

    def _read_staged(self, at: int, length: int) -> None:
        got = 0
        while got < length:
            got += os.readv(self._read_end, [self._data[at + got : at + length]])

    def _take(self, stream: int, length: int) -> bytes:
        _CHUNK.pack_into(self._memory, _CHUNK_AT, self._done + 1, stream, length)
        self._read_staged(0, length)
        return self._log_chunk(stream, length)

    def _log_chunk(self, stream: int, length: int) -> bytes:
        data = bytes(self._data[:length])
        try:
            self._log_text(stream, data)
        except OSError:
            self._lines[stream - 1] = b""
            self._log.truncate(self._log_size)
            self._commit(self._done + 1, 0)
        return data

    def _log_text(self, stream: int, data: bytes) -> None:
        now_ns = time.time_ns()
        start = self._offset
        text = self._lines[stream - 1] + data[start:]
        end = text.rfind(b"\n") + 1
        rest = text[end:]
        if long_line_at(text) < 0:
            entries = self._log.format(stream, text[:end], now_ns) if end else b""
            if not self._log.would_cross_limit(len(entries)):
                if entries:
                    self._log.write(entries)
                self._lines[stream - 1] = rest
                self._commit(self._done + 1, 0)
                return
        self._log_one_by_one(stream, data, now_ns)

    def _log_one_by_one(self, stream: int, data: bytes, now_ns: int) -> None:
        """The slow way, for long lines and for the end of a file that is to be rotated."""
        while self._offset < len(data):
            line = self._lines[stream - 1]
            room = PARTIAL_BYTES - len(line)
            newline = data.find(b"\n", self._offset, self._offset + room + 1)
            end = newline + 1 if newline >= 0 else min(self._offset + room, len(data))
            line += data[self._offset : end]
            if newline >= 0 or (len(line) == PARTIAL_BYTES and end < len(data)):
                if self._log.rotate_if_full():
                    self._commit(self._done, self._offset)
                self._log.write(self._log.format(stream, line, now_ns))
                line = b""
            self._lines[stream - 1] = line
            self._commit(self._done, end)
        self._commit(self._done + 1, 0)

    # -- the state

    def _load(self) -> tuple[int, ...]:
        return _STATE.unpack_from(self._memory, _STATES_AT + self._memory[0] * _STATE_BYTES)

    def _load_lines(self, lengths: list[int]) -> list[bytes]:
        at = _STATES_AT + self._memory[0] * _STATE_BYTES + _STATE.size
        return [
            self._memory[at : at + lengths[0]],
            self._memory[at + PARTIAL_BYTES : at + PARTIAL_BYTES + lengths[1]],
        ]

    def _commit(self, done: int, offset: int) -> None:
        inode, size = self._log.position()
        other = 1 - self._memory[0]
        at = _STATES_AT + other * _STATE_BYTES
        out, err = self._lines
        _STATE.pack_into(self._memory, at, done, offset, inode, size, len(out), len(err))
        at += _STATE.size
        self._memory[at : at + len(out)] = out
        at += PARTIAL_BYTES
        self._memory[at : at + len(err)] = err
        self._memory[0] = other
        self._done, self._offset, self._log_size = done, offset, size
