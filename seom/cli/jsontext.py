"""JSON without the json package, whose import costs more than most commands take to run.

Decoding is the interpreter's own C scanner; encoding is a few lines of Python around its C
string quoting. Objects keep their order, as users see them in `inspect`.
"""

from __future__ import annotations

import _json  # type: ignore[import-not-found,unused-ignore]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_quote: Any = _json.encode_basestring
_BLANK = " \t\r\n"


class _Rules:
    """What the C scanner asks its owner: plain Python types, and no control characters refused."""

    strict = False
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}


_rules: Any = _Rules()
_scan: Any = _json.make_scanner(_rules)


def decode(text: str | bytes) -> Any:
    """One JSON document. Raises ValueError."""
    value, end = decode_first(text.decode("utf-8", "replace") if isinstance(text, bytes) else text)
    if end != -1:
        raise ValueError(f"more text after the JSON document: {text[end : end + 40]!r}")
    return value


def decode_first(text: str, start: int = 0) -> tuple[Any, int]:
    """The document at start and the index where the next one begins (-1: nothing follows).

    Raises ValueError; an incomplete document is one too.
    """
    start = _skip_blank(text, start)
    try:
        value, end = _scan(text, start)
    except (StopIteration, SystemError):
        # Without json.decoder, which holds the exception's class, the scanner can only fail so.
        raise ValueError(f"not JSON: {text[start : start + 40]!r}") from None
    end = _skip_blank(text, end)
    return value, -1 if end == len(text) else end


def _skip_blank(text: str, index: int) -> int:
    while index < len(text) and text[index] in _BLANK:
        index += 1
    return index


def encode(value: Any, indent: int = 0, sort_keys: bool = False) -> str:
    """JSON text: compact, or indented by so many spaces a level."""
    pieces: list[str] = []
    _write(value, pieces, "\n" if indent else "", " " * indent, ": " if indent else ":", sort_keys)
    return "".join(pieces)


def _write(value: Any, pieces: list[str], line: str, indent: str, colon: str, sort_keys: bool) -> None:
    if isinstance(value, str):
        pieces.append(_quote(value))
    elif value is None:
        pieces.append("null")
    elif value is True:
        pieces.append("true")
    elif value is False:
        pieces.append("false")
    elif isinstance(value, (int, float)):
        pieces.append(_number(value))
    elif isinstance(value, dict):
        inner = line + indent
        separator = "{" + inner
        for key in sorted(value) if sort_keys else value:
            pieces.append(separator + _quote(str(key)) + colon)
            _write(value[key], pieces, inner, indent, colon, sort_keys)
            separator = "," + inner
        pieces.append(line + "}" if value else "{}")
    else:
        inner = line + indent
        separator = "[" + inner
        for item in value:
            pieces.append(separator)
            _write(item, pieces, inner, indent, colon, sort_keys)
            separator = "," + inner
        pieces.append(line + "]" if value else "[]")


def _number(value: int | float) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return repr(value)
