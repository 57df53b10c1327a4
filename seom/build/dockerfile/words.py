"""Splitting the text behind an instruction: words, flags, JSON lists.

Quotes and escapes stay in the words: taking them away is a part of expansion (expansion.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from seom.build.dockerfile.errors import DockerfileError

_JSON = json.JSONDecoder()
QUOTES = "\"'"
_BLANKS = re.compile(r"[ \t\v\f\r]+")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
"""What an escape in JSON can say, but no encoding can."""


def split_words(text: str, escape: str) -> list[str]:
    """Words between white space, where quotes and the escape character keep white space together.

    An unfinished quote reaches to the end.
    """
    words: list[str] = []
    word = ""
    quote = ""
    begun = False
    characters = iter(text)
    for character in characters:
        if character == escape and quote != "'":
            following = next(characters, "")
            if following:
                word += character + following
                begun = True
        elif quote:
            word += character
            quote = "" if character == quote else quote
        elif character.isspace():
            if begun:
                words.append(word)
            word, begun = "", False
        else:
            quote = character if character in QUOTES else ""
            word += character
            begun = True
    return [*words, word] if begun else words


def split_blanks(text: str) -> tuple[str, ...]:
    """Words between blanks; quotes mean nothing, and a no-break space is a part of a word."""
    return tuple(_BLANKS.split(text)) if text else ()


def split_flags(text: str, escape: str) -> tuple[list[str], str]:
    """The leading words that begin with "--", without quotes and escapes, and what follows them.

    A bare "--" ends the flags and is dropped.
    """
    flags: list[str] = []
    rest = text.lstrip()
    while rest.startswith("--"):
        flag, rest = _take_flag(rest, escape)
        rest = rest.lstrip()
        if flag == "--":
            break
        flags.append(flag)
    return flags, rest


def _take_flag(text: str, escape: str) -> tuple[str, str]:
    flag = ""
    quote = ""
    positions: Iterator[int] = iter(range(len(text)))
    for position in positions:
        character = text[position]
        if character == escape:
            following = next(positions, None)
            flag += text[following] if following is not None else ""
        elif quote:
            if character == quote:
                quote = ""
            else:
                flag += character
        elif character in QUOTES:
            quote = character
        elif character.isspace():
            return flag, text[position:]
        else:
            flag += character
    return flag, ""


def parse_json_strings(text: str) -> tuple[str, ...] | None:
    """The strings of a JSON list; None if the text is not one and is to be taken as a shell would.

    What follows the list is ignored, as Docker does: it may be a comment.

    Raises DockerfileError for a list with anything but strings in it.
    """
    text = text.lstrip()
    if not text.startswith("["):
        return None
    try:
        values, _ = _JSON.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(value, str) for value in values):
        raise DockerfileError("when using JSON array syntax, arrays must be comprised of strings only")
    return tuple(_LONE_SURROGATE.sub("\ufffd", value) for value in values)
