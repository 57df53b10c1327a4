"""Signal names as users write them."""

from __future__ import annotations

import signal

from seom.errors import InvalidParameter


def parse_signal(text: str) -> int:
    """The number of SIGTERM, TERM, term, 15, SIGRTMIN+3 ...; raises InvalidParameter."""
    if text.isdecimal():
        number = int(text)
        if 1 <= number <= signal.SIGRTMAX:
            return number
        raise InvalidParameter(f"invalid signal: {text}")
    name = text.upper().removeprefix("SIG")
    for base in ("RTMIN", "RTMAX"):
        if name.startswith(base):
            offset = name[len(base) :] or "+0"
            if offset[0] in "+-" and offset[1:].isdecimal():
                return int(getattr(signal, f"SIG{base}")) + int(offset)
    try:
        return int(signal.Signals[f"SIG{name}"])
    except KeyError as error:
        raise InvalidParameter(f"invalid signal: {text}") from error
