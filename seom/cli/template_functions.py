"""What templates can call, and how Go prints values."""

from __future__ import annotations

from seom.cli import jsontext
from seom.cli.template_parser import TemplateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_INDEXABLE = (list, tuple, str)


def show(value: Any) -> str:
    """As Go's fmt.Print shows it: true, [a b], map[k:v]."""
    if isinstance(value, str):
        return value
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{_nested(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(_nested(item) for item in value) + "]"
    if isinstance(value, float):
        return jsontext.encode(value)
    return str(value)


def _nested(value: Any) -> str:
    return "<nil>" if value is None else show(value)


def truth(value: Any) -> bool:
    """Go's idea: false, 0, nil and everything empty are not true."""
    return bool(value)


def sprint(values: tuple[Any, ...], separator: str = "") -> str:
    """Go's Sprint: a blank between neighbours when neither is a string."""
    text = ""
    for index, value in enumerate(values):
        if index and (separator or not (isinstance(value, str) or isinstance(values[index - 1], str))):
            text += separator or " "
        text += _nested(value)
    return text


def printf(template: Any, *values: Any) -> str:
    """Go's Sprintf for the verbs v s d q x X t f e g c and %%."""
    pieces: list[str] = []
    remaining = list(values)
    text, index = str(template), 0
    while index < len(text):
        if text[index] != "%":
            pieces.append(text[index])
            index += 1
            continue
        end = index + 1
        while end < len(text) and text[end] in "+-# 0123456789.":
            end += 1
        verb = text[end : end + 1]
        pieces.append(_format_verb(text[index + 1 : end], verb, remaining))
        index = end + 1
    if remaining:
        pieces.append("%!(EXTRA " + ", ".join(show(value) for value in remaining) + ")")
    return "".join(pieces)


def _format_verb(flags: str, verb: str, remaining: list[Any]) -> str:
    if verb == "%":
        return "%"
    if not verb:
        return "%!(NOVERB)"
    if not remaining:
        return f"%!{verb}(MISSING)"
    value = remaining.pop(0)
    try:
        if verb in "dcoxXeEfFgG" and not isinstance(value, (str, list, dict)):
            return str(("%" + flags + verb) % value)
        if verb in "xX" and isinstance(value, str):
            return value.encode().hex()
        if verb == "q":
            return ("%" + flags.replace("#", "") + "s") % jsontext.encode(show(value))
        if verb in "vst":
            return ("%" + flags.replace("0", "", 1).replace("#", "").replace("+", "") + "s") % _nested(value)
    except (TypeError, ValueError):
        pass
    return f"%!{verb}({type(value).__name__}={show(value)})"


def index(value: Any, *keys: Any) -> Any:
    """value[key]...; a missing key of a map is its zero value, a place outside a list an error."""
    for key in keys:
        if value is None:
            raise TemplateError("error calling index: index of untyped nil")
        if isinstance(value, dict):
            strings = all(isinstance(item, str) for item in value.values())
            value = value.get(key, "" if strings else None)
        elif isinstance(value, _INDEXABLE):
            if not isinstance(key, int):
                raise TemplateError(
                    f"error calling index: cannot index slice/array with type {_type_name(key)}"
                )
            if not 0 <= key < len(value):
                raise TemplateError(f"error calling index: index out of range: {key}")
            value = value[key]
        else:
            raise TemplateError(f"error calling index: can't index item of type {_type_name(value)}")
    return value


def _slice(value: Any, *bounds: int) -> Any:
    return value[slice(*bounds[:2])] if len(bounds) != 1 else value[bounds[0] :]


def _length(value: Any) -> int:
    try:
        return len(value.encode() if isinstance(value, str) else value or ())
    except TypeError:
        raise TemplateError(f"error calling len: len of type {_type_name(value)}") from None


def _type_name(value: Any) -> str:
    names = {str: "string", int: "int", float: "float64", bool: "bool", list: "[]interface {}"}
    return names.get(type(value), "map[string]interface {}")


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise TemplateError("error calling eq: missing argument for comparison")
    return any(_comparable("eq", first, other) and first == other for other in others)


def _comparable(name: str, left: Any, right: Any) -> bool:
    if isinstance(left, str) != isinstance(right, str) and left is not None and right is not None:
        raise TemplateError(f"error calling {name}: incompatible types for comparison")
    return True


def _ordered(name: str, test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(left: Any, right: Any) -> bool:
        _comparable(name, left, right)
        try:
            return test(left, right)
        except TypeError:
            raise TemplateError(f"error calling {name}: incompatible types for comparison") from None

    return compare


def _json(value: Any) -> str:
    plain = getattr(value, "plain", None)
    return jsontext.encode(plain() if plain else value)


def _title(text: Any) -> str:
    return " ".join(word[:1].upper() + word[1:] for word in str(text).split(" "))


def _pad(text: Any, before: int, after: int) -> str:
    return " " * before + str(text) + " " * after if text else str(text)


def _html(*values: Any) -> str:
    text = sprint(values)
    for plain, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&#34;"), ("'", "&#39;")):
        text = text.replace(plain, escaped)
    return text


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": _json,
    "split": lambda text, separator: str(text).split(separator) if separator else list(text),
    "join": lambda items, separator: separator.join(show(item) for item in items or ()),
    "title": _title,
    "lower": lambda text: show(text).lower(),
    "upper": lambda text: show(text).upper(),
    "pad": _pad,
    "truncate": lambda text, length: str(text)[:length],
    "not": lambda value: not truth(value),
    "eq": _equal,
    "ne": lambda left, right: _comparable("ne", left, right) and left != right,
    "lt": _ordered("lt", lambda left, right: left < right),
    "le": _ordered("le", lambda left, right: left <= right),
    "gt": _ordered("gt", lambda left, right: left > right),
    "ge": _ordered("ge", lambda left, right: left >= right),
    "index": index,
    "slice": _slice,
    "len": _length,
    "print": lambda *values: sprint(values),
    "println": lambda *values: sprint(values, " ") + "\n",
    "printf": printf,
    "html": _html,
    "urlquery": lambda *values: _urlquery(sprint(values)),
}


def _urlquery(text: str) -> str:
    from seom.cli.client import quote

    return quote(text).replace("%20", "+").replace("/", "%2F").replace(":", "%3A")
