""".dockerignore: which files of a build context do not exist for the build.

One pattern a line, relative to the context; "#" begins a comment. "*" is any text without a slash,
"?" one character, "[...]" one of several, "**" any number of directories. A pattern that matches a
directory matches everything in it. "!" before a pattern takes files back; the last pattern that
matches a file decides.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from seom.errors import InvalidParameter

_STAR, _DIRECTORIES, _ANYTHING = "[^/]*", "(?:.*/)?", ".*"
_SINGLE = {"*": _STAR, "?": "[^/]"}
_ENDS = {_STAR, _DIRECTORIES, _ANYTHING, "/"}
_CLASS = re.compile(r"(\^?)((?:\\.|[^\]\\])+)\]", re.DOTALL)
_MEMBERS = re.compile(r"(\\.|.)(?:-(\\.|.))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Pattern:
    """One line: glob without "!", cleaned like a path."""

    glob: str
    exception: bool


class IgnoreRules:
    """The rules of one .dockerignore. Raises InvalidParameter, with the line, for a bad pattern."""

    def __init__(self, text: str = "", name: str = ".dockerignore") -> None:
        self.patterns = _read(text, name)
        self._groups = _group(self.patterns)

    def ignores(self, path: str) -> bool:
        """Whether a path, relative to the context, is ignored; the context itself never is."""
        path = posixpath.normpath(path).lstrip("/")
        if path in {"", "."}:
            return False
        for expression, exception in self._groups:
            if expression.fullmatch(path):
                return not exception
        return False

    def may_keep_beneath(self, directory: str) -> bool:
        """Whether an exception can reach into an ignored directory; if not, a walk need not enter it."""
        parts = posixpath.normpath(directory).strip("/").split("/")
        return any(pattern.exception and _reaches_into(pattern.glob, parts) for pattern in self.patterns)


def _read(text: str, name: str) -> tuple[Pattern, ...]:
    patterns = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        stripped = line.strip()
        if not stripped or line.startswith("#"):
            continue
        exception = stripped.startswith("!")
        glob = stripped.removeprefix("!").strip()
        if not glob:
            raise InvalidParameter(f'{name}:{number}: illegal exclusion pattern: "{stripped}"')
        glob = _clean(glob)
        try:
            _expression(glob)
        except ValueError:
            raise InvalidParameter(f'{name}:{number}: syntax error in pattern "{stripped}"') from None
        patterns.append(Pattern(glob, exception))
    return tuple(patterns)


def _clean(glob: str) -> str:
    """Like Go's filepath.Clean, and relative: no empty parts, no "." and no ".." that can be resolved."""
    cleaned = posixpath.normpath(re.sub("/+", "/", glob))
    return cleaned[1:] if cleaned.startswith("/") and len(cleaned) > 1 else cleaned


def _group(patterns: tuple[Pattern, ...]) -> list[tuple[re.Pattern[str], bool]]:
    """One expression for each run of patterns of one kind, the last run first."""
    runs: list[tuple[list[str], bool]] = []
    for pattern in reversed(patterns):
        if not runs or runs[-1][1] != pattern.exception:
            runs.append(([], pattern.exception))
        runs[-1][0].append(_expression(pattern.glob))
    # Whatever matches a directory matches what is in it.
    return [
        (re.compile(f"(?:{'|'.join(expressions)})(?:/.*)?", re.DOTALL), exception)
        for expressions, exception in runs
    ]


def _expression(glob: str) -> str:
    """The regular expression of a glob; raises ValueError."""
    expression = chunk = following = ""
    for piece in reversed(_pieces(glob)):
        if piece not in _ENDS:
            chunk = piece + chunk
            continue
        # With another star to come, the first place where what is between them matches is as good as
        # any later one: not trying those keeps many stars from taking forever.
        atomic = piece == following == _STAR
        expression = (f"(?>[^/]*?{chunk})" if atomic else piece + chunk) + expression
        chunk, following = "", piece
    return chunk + expression


def _pieces(glob: str) -> list[str]:
    """The expressions of a glob's parts, in order."""
    pieces: list[str] = []
    position = 0
    while position < len(glob):
        character = glob[position]
        position += 1
        if glob.startswith("**", position - 1):
            rest = glob[position + 1 :].removeprefix("/")
            position = len(glob) - len(rest)
            pieces.append(_DIRECTORIES if rest else _ANYTHING)
        elif character == "[":
            members, position = _class(glob, position)
            pieces.append(members)
        elif character == "\\":
            if position == len(glob):
                raise ValueError(glob)
            pieces.append(re.escape(glob[position]))
            position += 1
        else:
            pieces.append(_SINGLE.get(character, re.escape(character)))
    return pieces


def _class(glob: str, position: int) -> tuple[str, int]:
    """The expression for what stands behind "[", and the position behind "]"; raises ValueError."""
    match = _CLASS.match(glob, position)
    if match is None:
        raise ValueError(glob)
    members = ""
    for first, last in _MEMBERS.findall(match[2]):
        low, high = first[-1], last[-1:] or first[-1]
        if low > high:
            raise ValueError(glob)
        members += f"{re.escape(low)}-{re.escape(high)}"
    return f"[{'^/' if match[1] else ''}{members}]", match.end()


def _reaches_into(glob: str, directory: list[str]) -> bool:
    for part, name in zip(glob.split("/"), directory, strict=False):
        # A class with a slash in it is torn apart here: "[" stands for such doubtful cases.
        if "**" in part or "[" in part:
            return True
        if not re.fullmatch(_expression(part), name, re.DOTALL):
            return False
    return True
