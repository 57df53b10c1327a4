"""The user's terminal: raw mode, its size, and the keys that detach from a container."""

from __future__ import annotations

import os
import termios

from seom.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_DETACH_KEYS = b"\x10\x11"
_CONTROL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


class RawMode:
    """A terminal that passes every key on; as a context manager it is put back at the end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._saved: list[Any] | None = None

    def __enter__(self) -> RawMode:
        self._saved = termios.tcgetattr(self._descriptor)
        raw = termios.tcgetattr(self._descriptor)
        raw[0] &= ~(
            termios.IGNBRK
            | termios.BRKINT
            | termios.PARMRK
            | termios.ISTRIP
            | termios.INLCR
            | termios.IGNCR
            | termios.ICRNL
            | termios.IXON
        )
        raw[1] &= ~termios.OPOST
        raw[2] = (raw[2] & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
        raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._descriptor, termios.TCSANOW, raw)
        return self

    def __exit__(self, *_: object) -> None:
        if self._saved is not None:
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._saved)


def size(descriptor: int = 1) -> tuple[int, int]:
    """(rows, columns), (0, 0) when it is no terminal."""
    try:
        columns, rows = os.get_terminal_size(descriptor)
    except OSError:
        return 0, 0
    return rows, columns


def parse_detach_keys(text: str) -> bytes:
    """The bytes of "ctrl-p,ctrl-q", "ctrl-@", "a,b". Raises CommandError."""
    keys = bytearray()
    for name in text.split(","):
        if len(name) == 1:
            keys += name.encode()
        elif name.lower().startswith("ctrl-") and len(name) == 6:
            letter = name[5].lower()
            code = ord(letter) - 96 if "a" <= letter <= "z" else _CONTROL.get(letter)
            if code is None:
                raise CommandError(f"invalid detach keys ({text}): unknown character {name!r}")
            keys.append(code)
        else:
            raise CommandError(f"invalid detach keys ({text}): Unknown character: '{name}'")
    return bytes(keys)


class DetachFilter:
    """Finds the detach keys in what is typed, over the borders of single reads."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, typed: bytes) -> tuple[bytes, bool]:
        """What to pass on, and whether the keys were complete (the rest is dropped)."""
        if not self._keys:
            return typed, False
        passed = bytearray()
        for byte in typed:
            if byte == self._keys[self._matched]:
                self._matched += 1
                if self._matched == len(self._keys):
                    return bytes(passed), True
                continue
            passed += self._keys[: self._matched]
            self._matched = 1 if byte == self._keys[0] else 0
            if not self._matched:
                passed.append(byte)
        return bytes(passed), False
