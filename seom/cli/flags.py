"""Docker-style flags: one table per command, from which parser, help and completion are made.

The grammar is that of Docker's command line: ``--name value``, ``--name=value``, ``-n value``,
``-nvalue``, ``-n=value``, switches combined as ``-it``, repetition for lists, and ``--`` to end
the flags. Flags and arguments may be mixed except for commands that run another command.
Nothing but builtins is imported here: the parser is on the path of every start.
"""

from __future__ import annotations

from seom.cli import units
from seom.cli.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

SWITCH = "bool"
LISTS = frozenset(
    ("list", "strings", "map", "filter", "mount", "network", "ulimit", "gpu-request", "volume", "port")
)
_TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))


class Flag:
    """One flag. kind decides how values are parsed and how help names them.

    complete names what a shell offers for the value: a noun ("containers", "images", ...),
    "files", or the words themselves separated by spaces.
    """

    __slots__ = ("check", "complete", "default", "help", "hidden", "kind", "name", "short")

    def __init__(
        self,
        name: str,
        kind: str,
        help: str,
        *,
        short: str = "",
        default: Any = None,
        hidden: bool = False,
        complete: str = "",
        check: Callable[[str], object] | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.help = help
        self.short = short
        self.default = default
        self.hidden = hidden
        self.complete = complete
        self.check = check

    @property
    def label(self) -> str:
        """As error messages name it: "-m, --memory" or "--name"."""
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"


class Options:
    """Parsed values by flag name, with defaults filled in."""

    __slots__ = ("changed", "values")

    def __init__(self, flags: Sequence[Flag]) -> None:
        self.changed: set[str] = set()
        self.values: dict[str, Any] = {flag.name: default_of(flag) for flag in flags}

    def on(self, name: str) -> bool:
        """Whether the switch is on."""
        return bool(self.values[name])

    def text(self, name: str) -> str:
        """The value of a string flag, "" when absent."""
        value = self.values[name]
        return value if isinstance(value, str) else ""

    def number(self, name: str) -> int:
        """The value of a numeric flag: a count, bytes, nanoseconds or billionths by its kind."""
        value = self.values[name]
        return value if isinstance(value, int) else 0

    def each(self, name: str) -> list[str]:
        """The values of a repeatable flag, in order."""
        value = self.values[name]
        return value if isinstance(value, list) else []


def default_of(flag: Flag) -> Any:
    """The value a flag has when it is absent."""
    if flag.default is not None:
        return flag.default
    if flag.kind == SWITCH:
        return False
    if flag.kind in LISTS:
        return []
    return "" if flag.kind == "string" else 0


def _integer(text: str) -> int:
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not digits.isascii() or not digits.isdigit():
        raise ValueError(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(text)


def _filter(text: str) -> str:
    if "=" not in text:
        raise ValueError("bad format of filter (expected name=value)")
    return text


def _switch(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


_PARSERS: dict[str, Callable[[str], Any]] = {
    SWITCH: _switch,
    "int": _integer,
    "uint": _integer,
    "uint16": _integer,
    "bytes": units.parse_bytes,
    "duration": units.parse_duration,
    "decimal": units.parse_decimal,
    "filter": _filter,
}


def _assign(flag: Flag, text: str, options: Options) -> None:
    try:
        if flag.check is not None:
            flag.check(text)
        parser = _PARSERS.get(flag.kind)
        value = parser(text) if parser else text
    except ValueError as error:
        raise UsageError(f'invalid argument "{text}" for "{flag.label}" flag: {error}') from None
    if flag.kind in LISTS:
        items = text.split(",") if flag.kind == "strings" else [text]
        previous = options.values[flag.name] if flag.name in options.changed else []
        options.values[flag.name] = [*previous, *items]
    else:
        options.values[flag.name] = value
    options.changed.add(flag.name)


class _Parser:
    def __init__(self, flags: Sequence[Flag], argv: Sequence[str]) -> None:
        self.long = {flag.name: flag for flag in flags}
        self.short = {flag.short: flag for flag in flags if flag.short}
        self.argv = argv
        self.position = 0
        self.options = Options(flags)

    def _next_value(self, message: str) -> str:
        if self.position >= len(self.argv):
            raise UsageError(message)
        self.position += 1
        return self.argv[self.position - 1]

    def parse_long(self, word: str) -> None:
        name, equals, value = word[2:].partition("=")
        flag = self.long.get(name)
        if flag is None:
            if name == "help":
                raise HelpRequested
            if not name:
                raise UsageError(f"bad flag syntax: {word}")
            raise UsageError(f"unknown flag: --{name}" + suggestion(f"--{name}", self.long, "--"))
        if not equals:
            value = (
                "true" if flag.kind == SWITCH else self._next_value(f"flag needs an argument: --{flag.name}")
            )
        _assign(flag, value, self.options)

    def parse_short(self, word: str) -> None:
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            flag = self.short.get(letter)
            if flag is None:
                if letter == "h":
                    raise HelpRequested
                raise UsageError(f"unknown shorthand flag: '{letter}' in -{letter}{letters}")
            if letters.startswith("="):
                value, letters = letters[1:], ""
            elif flag.kind == SWITCH:
                value = "true"
            elif letters:
                value, letters = letters, ""
            else:
                value = self._next_value(f"flag needs an argument: '{letter}' in {word}")
            _assign(flag, value, self.options)


class HelpRequested(Exception):
    """--help was given."""


def parse(
    flags: Sequence[Flag], argv: Sequence[str], *, interspersed: bool = True
) -> tuple[Options, list[str]]:
    """Split argv into options and arguments.

    With interspersed off, everything from the first argument on is an argument: the command
    to run inside a container keeps its own flags. Raises UsageError, HelpRequested.
    """
    parser = _Parser(flags, argv)
    arguments: list[str] = []
    while parser.position < len(argv):
        word = argv[parser.position]
        parser.position += 1
        if word == "--":
            arguments.extend(argv[parser.position :])
            break
        if word.startswith("--"):
            parser.parse_long(word)
        elif word.startswith("-") and word != "-":
            parser.parse_short(word)
        else:
            arguments.append(word)
            if not interspersed:
                arguments.extend(argv[parser.position :])
                break
    return parser.options, arguments


def suggestion(word: str, names: Sequence[str] | dict[str, Any], prefix: str = "") -> str:
    """A second line naming the nearest known word, or ""."""
    best, best_distance = "", 3 if len(word) > 4 + len(prefix) else 2
    for name in names:
        distance = edit_distance(word, prefix + name)
        if distance < best_distance:
            best, best_distance = prefix + name, distance
    return f"\nDid you mean {best}?" if best else ""


def edit_distance(left: str, right: str) -> int:
    """Insertions, deletions, substitutions and swaps of neighbours that turn left into right."""
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        following = [i]
        for j, b in enumerate(right, 1):
            cost = min(row[j] + 1, following[j - 1] + 1, row[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            following.append(cost)
        before, row = row, following
    return row[-1]
