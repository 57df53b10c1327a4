"""Help and usage texts, made from the tables of commands and flags."""

from __future__ import annotations

import os

from seom.cli import commands
from seom.cli.flags import LISTS, SWITCH, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from seom.cli.commands import Command


def width() -> int:
    """Columns to fill: the terminal's, at most 120, or 80."""
    try:
        return max(60, min(120, os.get_terminal_size(1).columns))
    except OSError:
        return 80


def wrap(text: str, columns: int) -> list[str]:
    """Break at blanks; a longer word keeps a line of its own."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            if line and len(line) + 1 + len(word) > columns:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}" if line else word
        lines.append(line)
    return lines


def _default(flag: Flag) -> str:
    if flag.default in (None, "", 0, False) or flag.kind in LISTS:
        return ""
    if flag.kind == "string":
        return f' (default "{flag.default}")'
    return f" (default {str(flag.default).lower()})"


def flag_lines(flags: Sequence[Flag]) -> str:
    """Two columns: spelling and kind, then the wrapped help."""
    heads = []
    for flag in sorted(flags, key=lambda flag: flag.name):
        if not flag.hidden:
            short = f"-{flag.short}, " if flag.short else "    "
            kind = "" if flag.kind == SWITCH else f" {flag.kind}"
            heads.append((f"  {short}--{flag.name}{kind}", flag.help + _default(flag)))
    indent = max(len(head) for head, _ in heads) + 3
    lines = []
    for head, text in heads:
        first, *rest = wrap(text, max(30, width() - indent))
        lines.append(f"{head:{indent}}{first}")
        lines.extend(" " * indent + line for line in rest)
    return "\n".join(lines)


def table(rows: dict[str, str]) -> str:
    """Names and summaries in two columns."""
    indent = max(map(len, rows)) + 2
    return "\n".join(f"  {name:{indent}}{summary}" for name, summary in rows.items())


def usage(words: str, command: Command) -> str:
    """The line (or lines) that show how a command is called."""
    first, *more = command.usage.split("\n")
    return "\n".join([f"Usage:  seom {words} {first}".rstrip(), *(f"\tseom {words} {line}" for line in more)])


def usage_and_pointer(words: str, command: Command) -> str:
    """What follows a complaint about the command line."""
    return f"{usage(words, command)}\n\nRun 'seom {words} --help' for more information"


def for_command(words: str) -> str:
    """The whole help of one command."""
    command = commands.load(words)
    _, summary, spellings = commands.SPELLINGS[words]
    parts = [usage(words, command), summary]
    if command.details:
        parts.append(command.details)
    if len(spellings) > 1:
        parts.append("Aliases:\n  " + ", ".join(f"seom {spelling}" for spelling in sorted(spellings)))
    if command.flags:
        parts.append("Options:\n" + flag_lines(command.flags))
    return "\n\n".join(parts) + "\n"


def for_group(group: str) -> str:
    """The help of `seom container` and its like."""
    rows = dict(sorted(commands.members(group).items()))
    return (
        f"Usage:  seom {group} COMMAND\n\n{commands.GROUPS[group]}\n\nCommands:\n{table(rows)}\n\n"
        f"Run 'seom {group} COMMAND --help' for more information on a command.\n"
    )


def for_everything() -> str:
    """The help of `seom` itself."""
    rows = commands.members("")
    common = {name: rows[name] for name in commands.COMMON}
    other = {name: rows[name] for name in sorted(rows) if name not in common}
    return (
        "Usage:  seom [OPTIONS] COMMAND\n\nEvery workload its own island, from one image\n\n"
        f"Common Commands:\n{table(common)}\n\nManagement Commands:\n{table(commands.GROUPS)}\n\n"
        f"Commands:\n{table(other)}\n\nGlobal Options:\n{flag_lines(commands.GLOBAL_FLAGS)}\n\n"
        "Run 'seom COMMAND --help' for more information on a command.\n"
        "Run 'seom doctor' to check this machine, 'seom completion bash|zsh|fish' for completion.\n"
    )


def wrong_number(words: str, command: Command) -> str:
    """What is said when there are too few or too many arguments."""
    least, most = command.arguments
    if most == 0:
        need = "accepts no arguments"
    elif most is None:
        need = f"requires at least {least} argument{'s' if least > 1 else ''}"
    elif least == most:
        need = f"requires {least} argument{'s' if least > 1 else ''}"
    elif least:
        need = f"requires at least {least} and at most {most} arguments"
    else:
        need = f"requires at most {most} argument{'s' if most > 1 else ''}"
    return f"seom: 'seom {words}' {need}\n\n" + usage_and_pointer(words, command)
