"""The modes of COPY --chmod: octal digits, or changes as chmod(1) takes them (u=rwX,go=rX)."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable

from seom.errors import InvalidParameter

Mode = Callable[[int, bool], int]
"""The new mode of a file, from its old mode and whether it is a directory."""

_CLAUSE = re.compile(r"([ugoa]*)([-+=])([rwxXst]*)")
_BITS = {"r": 0o444, "w": 0o222, "x": 0o111}
_WHO = {"u": 0o4700, "g": 0o2070, "o": 0o1007}


def parse_mode(text: str) -> Mode:
    """Raises InvalidParameter for what chmod(1) would not understand."""
    if re.fullmatch(r"[0-7]{1,4}", text):
        number = int(text, 8)
        return lambda mode, is_directory: number
    clauses = [_CLAUSE.fullmatch(clause) for clause in text.split(",")]
    if not all(clauses):
        raise InvalidParameter(
            f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
        )
    found = [clause.groups() for clause in clauses if clause]

    def change(mode: int, is_directory: bool) -> int:
        for who, operator, wanted in found:
            mode = _changed(mode, is_directory, who, operator, wanted)
        return mode

    return change


def _changed(mode: int, is_directory: bool, who: str, operator: str, wanted: str) -> int:
    affected = 0
    for letter in "ugo" if not who or "a" in who else who:
        affected |= _WHO[letter]
    bits = 0
    for letter in wanted:
        if letter == "X":
            bits |= 0o111 if is_directory or mode & 0o111 else 0
        elif letter == "s":
            bits |= stat.S_ISUID | stat.S_ISGID
        elif letter == "t":
            bits |= stat.S_ISVTX
        else:
            bits |= _BITS[letter]
    bits &= affected
    if operator == "+":
        return mode | bits
    if operator == "-":
        return mode & ~bits
    return mode & ~(affected & 0o777) | bits
