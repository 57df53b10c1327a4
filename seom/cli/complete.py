"""What can come next on a command line: the one completer behind bash, zsh and fish.

    seom __complete SHELL WORD...      the words typed after `seom`, the last of them unfinished

prints one candidate a line, with a tab and a description for zsh and fish; the line ":files"
asks the shell to offer file names as well.
"""

from __future__ import annotations

from seom.cli import commands, output
from seom.cli.commands import GLOBAL_FLAGS, GROUPS, SPELLINGS
from seom.cli.errors import CommandError
from seom.cli.flags import SWITCH, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from seom.cli.client import Client

Candidates = list[tuple[str, str]]
FILES = ":files"


def complete(argv: Sequence[str], client: Client) -> int:
    """Print the candidates for argv = [shell, *words]."""
    shell, *words = argv
    if shell == "bash":
        words = split_line(words[0])[1:] if words else [""]
    found = candidates(words or [""], client)
    for value, description in found:
        output.line(value if shell == "bash" or not description else f"{value}\t{description}")
    return 0


def split_line(line: str) -> list[str]:
    """Words of an unfinished shell line; quotes and backslashes are taken away."""
    words, word, quote, index = [], "", "", 0
    started = True
    while index < len(line):
        character = line[index]
        if quote:
            if character == quote:
                quote = ""
            else:
                word += character
        elif character in "'\"":
            quote, started = character, True
        elif character == "\\" and index + 1 < len(line):
            index += 1
            word, started = word + line[index], True
        elif character in " \t":
            if started:
                words.append(word)
            word, started = "", False
        else:
            word, started = word + character, True
        index += 1
    return [*words, word]


def candidates(words: Sequence[str], client: Client) -> Candidates:
    """Candidates for the last word, after those before it."""
    *before, current = words
    position, pending = _skip_flags(GLOBAL_FLAGS, before, 0)
    if pending is not None:
        return _values(pending, current, client)
    if position == len(before):
        return _flags(GLOBAL_FLAGS, current) if current.startswith("-") else _matching(_top_level(), current)
    spelling = before[position]
    position += 1
    if spelling in GROUPS:
        if position == len(before):
            return _matching(commands.members(spelling), current)
        spelling = f"{spelling} {before[position]}"
        position += 1
    if spelling not in SPELLINGS:
        return []
    return _for_command(spelling, before[position:], current, client)


def _top_level() -> dict[str, str]:
    return {**commands.members(""), **GROUPS, "help": "Help about a command"}


def _for_command(spelling: str, before: Sequence[str], current: str, client: Client) -> Candidates:
    command = commands.load(spelling)
    position, count = 0, 0
    while position < len(before):
        position, pending = _skip_flags(command.flags, before, position)
        if pending is not None:
            return _values(pending, current, client)
        if position < len(before):
            count, position = count + 1, position + 1
            if not command.interspersed:
                break
    if current.startswith("-") and (command.interspersed or not count):
        name, equals, value = current.partition("=")
        flag = _find(command.flags, name)
        if equals and flag is not None:
            return [(f"{name}={item}", text) for item, text in _values(flag, value, client)]
        return _flags(command.flags, current)
    if count and (
        not command.interspersed or (command.arguments[1] is not None and count >= command.arguments[1])
    ):
        return [(FILES, "")]
    return _nouns(command.completes, current, client)


def _find(flags: Sequence[Flag], word: str) -> Flag | None:
    """The flag that a word names: --name, or the last letter of -abc."""
    for flag in flags:
        if word == f"--{flag.name}" or (
            not word.startswith("--") and flag.short and word.endswith(flag.short)
        ):
            return flag
    return None


def _skip_flags(flags: Sequence[Flag], words: Sequence[str], position: int) -> tuple[int, Flag | None]:
    """Past the flags at position; the flag whose value is still missing at the end."""
    while position < len(words) and words[position].startswith("-") and words[position] != "-":
        word = words[position]
        position += 1
        flag = _find(flags, word)
        if flag is not None and flag.kind != SWITCH and "=" not in word:
            if position == len(words):
                return position, flag
            position += 1
    return position, None


def _flags(flags: Sequence[Flag], current: str) -> Candidates:
    shown = {f"--{flag.name}": flag.help for flag in flags if not flag.hidden}
    shown["--help"] = "Print usage"
    return _matching(shown, current)


def _matching(words: dict[str, str], current: str) -> Candidates:
    return [(word, words[word]) for word in sorted(words) if word.startswith(current)]


def _values(flag: Flag, current: str, client: Client) -> Candidates:
    if flag.complete in _NOUNS or flag.complete in ("", "files"):
        return _nouns(flag.complete, current, client)
    return _matching(dict.fromkeys(flag.complete.split(), ""), current)


_NOUNS = {
    "containers": "/containers/json?all=1",
    "running": "/containers/json",
    "images": "/images/json",
    "networks": "/networks",
    "volumes": "/volumes",
}


def _nouns(kind: str, current: str, client: Client) -> Candidates:
    """Names of a kind of object, asked of the daemon; nothing when it does not answer."""
    if kind == "files":
        return [(FILES, "")]
    if kind not in _NOUNS:
        return _matching(dict.fromkeys(kind.split(), ""), current)
    try:
        answer = client.get(_NOUNS[kind])
    except (CommandError, OSError):
        return []
    if kind == "volumes":
        return _matching({item["Name"]: "" for item in answer.get("Volumes") or ()}, current)
    if kind == "networks":
        return _matching({item["Name"]: item["Driver"] for item in answer}, current)
    if kind == "images":
        return _matching({tag: "" for item in answer for tag in item.get("RepoTags") or ()}, current)
    names = {name.removeprefix("/"): item["Image"] for item in answer for name in item["Names"]}
    return _matching(names, current)
