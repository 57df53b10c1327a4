"""Variables, quotes and escapes in a word, with the notation of a shell and Docker's limits to it.

    $name ${name}
    ${name:-word} ${name-word}      word if name is empty or unset; if it is unset
    ${name:+word} ${name+word}      word if name is neither; if it is set
    ${name:?word} ${name?word}      an error with word as text, under the same conditions as "-"
    ${name#pattern} ${name##pattern}    without the shortest, longest match at the beginning
    ${name%pattern} ${name%%pattern}    without the shortest, longest match at the end
    ${name/pattern/word} ${name//pattern/word}    the first match, every match replaced

In a pattern "*" is any text and "?" any character. A variable that is unset is empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from seom.build.dockerfile.errors import DockerfileError
from seom.build.dockerfile.patterns import Pattern

_SPECIAL = "@*#?-$!"
_MODIFIERS = "+-?"
_DEEPEST = 50
"""Levels of ${} within ${}: more than anybody writes, and less than exhausts the stack."""


class Scope:
    """The variables that words are expanded with. It remembers which names were asked for in vain."""

    def __init__(self, variables: Mapping[str, str], escape: str = "\\") -> None:
        self.variables = variables
        self.escape = escape
        self.undefined: set[str] = set()

    def word(self, text: str) -> str:
        """The final form of a word of an instruction; raises DockerfileError."""
        return _Reader(text, self, self.escape, quotes=True).read()

    def document(self, text: str) -> str:
        """The final form of a here-document for COPY or ADD: quotes mean nothing in it."""
        return _Reader(text, self, "\\", quotes=False).read()

    def value(self, name: str) -> str | None:
        """The value of a variable; None, and a note in undefined, if it has none."""
        value = self.variables.get(name)
        if value is None:
            self.undefined.add(name)
        return value


def expand(word: str, variables: Mapping[str, str], escape: str = "\\") -> str:
    """The final form of a word: variables replaced, quotes and escapes taken away.

    Raises DockerfileError for unfinished quotes and braces, for unknown modifiers, and where
    ${name:?} demands a value.
    """
    return Scope(variables, escape).word(word)


class _Reader:
    """Reads one text from left to right; position is at the character to be read next."""

    def __init__(self, text: str, scope: Scope, escape: str, *, quotes: bool) -> None:
        self.text = text
        self.scope = scope
        self.escape = escape
        self.quotes = quotes
        self.position = 0
        self.depth = 0

    def read(self) -> str:
        try:
            return self._until("", keep_escapes=False)
        except DockerfileError as error:
            raise DockerfileError(
                f"failed to process {_quoted(self.text)}: {error.message}", hint=error.hint
            ) from None

    def _peek(self) -> str:
        return self.text[self.position : self.position + 1]

    def _next(self) -> str:
        character = self._peek()
        self.position += 1
        return character

    def _until(self, stop: str, *, keep_escapes: bool) -> str:
        """Everything up to stop, which is read, too; up to the end if stop is empty."""
        result = ""
        while character := self._peek():
            if character == stop:
                self.position += 1
                return result
            if character == "$":
                result += self._dollar()
            elif character == "'" and self.quotes:
                result += self._single_quoted()
            elif character == '"' and self.quotes:
                result += self._double_quoted(keep_escapes=keep_escapes)
            elif character == self.escape:
                self.position += 1
                result += (character if keep_escapes else "") + self._next()
            else:
                result += self._next()
        if stop:
            raise DockerfileError(f"syntax error: missing '{stop}'" + (" in ${}" if stop == "/" else ""))
        return result

    def _single_quoted(self) -> str:
        end = self.text.find("'", self.position + 1)
        if end < 0:
            raise DockerfileError(
                "unexpected end of statement while looking for matching single-quote",
                hint="write \\' or \"'\" for a quote that is meant literally",
            )
        content = self.text[self.position + 1 : end]
        self.position = end + 1
        return content

    def _double_quoted(self, *, keep_escapes: bool) -> str:
        """Only variables, and the escape character before a quote, a dollar and itself, have a meaning."""
        self.position += 1
        result = ""
        while character := self._peek():
            if character == '"':
                self.position += 1
                return result
            if character == "$":
                result += self._dollar()
                continue
            self.position += 1
            if character == self.escape and self._peek() in {'"', "$", self.escape}:
                result += (character if keep_escapes else "") + self._next()
            else:
                result += character
        raise DockerfileError("unexpected end of statement while looking for matching double-quote")

    def _dollar(self) -> str:
        self.position += 1
        if self._peek() != "{":
            name = self._name()
            return (self.scope.value(name) or "") if name else "$"
        self.position += 1
        if not self._peek():
            raise DockerfileError("syntax error: missing '}'")
        name = "" if self._peek() in "{}:" else self._name()
        if not name:
            raise DockerfileError("syntax error: bad substitution")
        self.depth += 1
        if self.depth > _DEEPEST:
            raise DockerfileError("substitutions are nested too deeply")
        value = self._braced(name)
        self.depth -= 1
        return value

    def _name(self) -> str:
        match = re.compile(rf"[0-9]+|[{re.escape(_SPECIAL)}]|\w+").match(self.text, self.position)
        if match is None:
            return ""
        self.position = match.end()
        return match[0]

    def _braced(self, name: str) -> str:
        """The value of ${name...}, read from behind the name to behind the closing brace."""
        operator = self._next()
        if not operator:
            raise DockerfileError("syntax error: missing '}'")
        if operator == "}":
            return self.scope.value(name) or ""
        if operator in "#%":
            return self._trimmed(name, operator)
        if operator == "/":
            return self._replaced(name)
        modifier = operator + (self._next() if operator == ":" else "")
        if modifier[-1] not in _MODIFIERS:
            raise DockerfileError(f"unsupported modifier ({modifier}) in substitution")
        word = self._until("}", keep_escapes=False)
        return self._conditional(name, modifier, word)

    def _conditional(self, name: str, modifier: str, word: str) -> str:
        # Whoever gives an alternative knows that the variable may be unset.
        value = self.scope.variables.get(name)
        missing = value is None or (modifier[0] == ":" and not value)
        if modifier[-1] == "+":
            return "" if missing else word
        if not missing:
            return value or ""
        if modifier[-1] == "-":
            return word
        state = "unset" if value is None else "empty"
        raise DockerfileError(f"{name}: {word or f'is not allowed to be {state}'}")

    def _trimmed(self, name: str, side: str) -> str:
        greedy = self._peek() == side
        if greedy:
            self.position += 1
        pattern = Pattern(self._until("}", keep_escapes=True))
        value = self.scope.value(name) or ""
        if side == "#":
            return value[pattern.prefix(value, longest=greedy) or 0 :]
        return value[: len(value) - (pattern.suffix(value, longest=greedy) or 0)]

    def _replaced(self, name: str) -> str:
        everywhere = self._peek() == "/"
        if everywhere:
            self.position += 1
        pattern = Pattern(self._until("/", keep_escapes=True))
        replacement = self._until("}", keep_escapes=True)
        return pattern.replace(self.scope.value(name) or "", replacement, everywhere=everywhere)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
