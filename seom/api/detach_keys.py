"""The key sequence that leaves a terminal without ending what runs in it."""

from __future__ import annotations

from seom.errors import InvalidParameter

DEFAULT = b"\x10\x11"
"""ctrl-P ctrl-Q"""

_CONTROL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def parse_detach_keys(text: str) -> bytes:
    """The bytes of ``ctrl-p,ctrl-q`` or ``a,b``; the default for an empty text. Raises InvalidParameter."""
    if not text:
        return DEFAULT
    return bytes(_parse_key(key, text) for key in text.split(","))


def _parse_key(key: str, text: str) -> int:
    if len(key) == 1 and key.isascii():
        return ord(key)
    name = key.lower().removeprefix("ctrl-")
    if len(name) == 1 and key.lower().startswith("ctrl-"):
        if name in _CONTROL:
            return _CONTROL[name]
        if "a" <= name <= "z":
            return ord(name) - ord("a") + 1
    raise InvalidParameter(
        f'invalid detach keys "{text}": unknown key "{key}"; write for example ctrl-p,ctrl-q'
    )
