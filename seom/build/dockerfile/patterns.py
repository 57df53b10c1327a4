"""Patterns of ${name#pattern} and ${name/pattern/word}: "*" is any text, "?" any character.

A regular expression would say the same, but with many stars it can take forever on a text that does
not match. Here the places where a match can stand are kept as a set of bits, so that the time is
bounded by the length of the text times that of the pattern.
"""

from __future__ import annotations

from seom.build.dockerfile.errors import DockerfileError

_ANY_TEXT = None
_ANY_CHARACTER = ""


class Pattern:
    """A pattern; a backslash takes the meaning from * ? \\\\ } and /, and may stand before nothing else."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str | None] = []
        characters = iter(text)
        for character in characters:
            if character == "*":
                if self._tokens[-1:] != [_ANY_TEXT]:
                    self._tokens.append(_ANY_TEXT)
            elif character == "?":
                self._tokens.append(_ANY_CHARACTER)
            elif character == "\\":
                self._tokens.append(_escaped(next(characters, ""), text))
            else:
                self._tokens.append(character)

    def prefix(self, text: str, *, longest: bool) -> int | None:
        """The length of the longest or shortest prefix of a text that matches; None if none does."""
        return _length(_reach(self._tokens, _places(text), len(text)), longest=longest)

    def suffix(self, text: str, *, longest: bool) -> int | None:
        """The length of the longest or shortest suffix of a text that matches; None if none does."""
        return _length(_reach(self._tokens[::-1], _places(text[::-1]), len(text)), longest=longest)

    def replace(self, text: str, replacement: str, *, everywhere: bool) -> str:
        """The text with the first match, or every match, replaced; at each place the longest counts."""
        places = _places(text)
        result = ""
        position = 0
        after_match = -1
        while position <= len(text):
            rest = {character: bits >> position for character, bits in places.items()}
            length = _length(_reach(self._tokens, rest, len(text) - position), longest=True)
            # An empty match right behind another one does not count.
            if length is not None and (length or position != after_match):
                result += replacement
                position = after_match = position + length
                if not everywhere:
                    break
                if length:
                    continue
            result += text[position : position + 1]
            position += 1
        return result + text[position:]


def _escaped(character: str, pattern: str) -> str:
    if character and character in "*?\\}/":
        return character
    raise DockerfileError(f"invalid pattern ({pattern}) in substitution: invalid escape '\\{character}'")


def _places(text: str) -> dict[str, int]:
    """For each character the places where it stands, place n as bit n."""
    places: dict[str, int] = {}
    for position, character in enumerate(text):
        places[character] = places.get(character, 0) | 1 << position
    return places


def _reach(tokens: list[str | None], places: dict[str, int], size: int) -> int:
    """The lengths of the prefixes that match, length n as bit n."""
    everything = (1 << (size + 1)) - 1
    reached = 1
    for token in tokens:
        if token is _ANY_TEXT:
            lowest = reached & -reached
            reached = everything & ~(lowest - 1) if reached else 0
        elif token == _ANY_CHARACTER:
            reached = reached << 1 & everything
        else:
            reached = (reached & places.get(token, 0)) << 1
        if not reached:
            break
    return reached


def _length(reached: int, *, longest: bool) -> int | None:
    if not reached:
        return None
    return (reached if longest else reached & -reached).bit_length() - 1
