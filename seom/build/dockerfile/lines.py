"""From text to logical lines: parser directives, comments, continuations and here-documents."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from seom.build.dockerfile.errors import DockerfileError, Location
from seom.build.dockerfile.words import split_words

DEFAULT_ESCAPE = "\\"
_ESCAPES = {"\\", "`"}
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$")
_HEREDOC = re.compile(r"(\d{0,9})<<(-?)([^<]+)")
_WITH_HEREDOCS = {"RUN", "COPY", "ADD"}


@dataclass(frozen=True, slots=True)
class Directives:
    """The parser directives ("# syntax=...") before everything else."""

    syntax: str = ""
    escape: str = DEFAULT_ESCAPE
    check: str = ""


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A here-document. raw is what stands between the lines with its name, untouched."""

    name: str
    raw: str = ""
    expand: bool = True
    """Variables are replaced; not if the name is quoted."""
    strip_tabs: bool = False
    """Written "<<-NAME": the tabs that begin a line do not count."""
    descriptor: int = 0

    @property
    def content(self) -> str:
        """What the document says, without the tabs that do not count."""
        return re.sub(r"(?m)^\t+", "", self.raw) if self.strip_tabs else self.raw


@dataclass(frozen=True, slots=True)
class LogicalLine:
    """One instruction's text: continuations joined, comments dropped, here-documents set apart."""

    text: str
    location: Location
    heredocs: tuple[Heredoc, ...] = ()
    empty_continuations: tuple[int, ...] = ()
    """Numbers of empty lines that were passed over while a continuation was looked for."""
    comments: tuple[str, ...] = ()
    """The comments right before, without "#"; an empty line or comment ends what belongs to a line."""

    @property
    def source(self) -> str:
        """The text with its here-documents, as a shell wants them."""
        documents = "".join(f"\n{document.raw}{document.name}" for document in self.heredocs)
        return self.text + documents


def read_directives(text: str) -> Directives:
    """The directives at the beginning; the first line that is none ends them.

    Raises DockerfileError for a directive given twice and for an impossible escape character.
    """
    found: dict[str, str] = {}
    lines = text.removeprefix("\ufeff").split("\n")
    start = 1 if lines[0].startswith("#!") else 0
    for number, line in enumerate(lines[start:], start + 1):
        directive = _directive(line.strip())
        if directive is None:
            break
        name, value = directive
        location = Location(number, number)
        if name in found:
            raise DockerfileError(f"only one {name} parser directive can be used", location=location)
        if name == "escape" and value not in _ESCAPES:
            raise DockerfileError(f"invalid escape token '{value}' does not match ` or \\", location=location)
        found[name] = value
    return Directives(**found)


def _directive(line: str) -> tuple[str, str] | None:
    match = _DIRECTIVE.match(line)
    if match is None or match[1].lower() not in Directives.__slots__:
        return None
    return match[1].lower(), match[2]


def read_lines(text: str, escape: str) -> list[LogicalLine]:
    """All logical lines; raises DockerfileError for a here-document without an end."""
    physical = text.removeprefix("\ufeff").removesuffix("\n").split("\n")
    lines: list[LogicalLine] = []
    comments: list[str] = []
    number = 0
    while number < len(physical):
        first = physical[number].strip()
        if not first or first.startswith("#"):
            comment = "" if _directive(first) else first.lstrip("#").strip()
            comments = [*comments, comment] if comment else []
            number += 1
            continue
        line, number = _join(physical, number, escape)
        if not line.text:
            continue  # a continuation character alone, and nothing behind it
        line, comments = replace(line, comments=tuple(comments)), []
        announced = _announced(line.text, escape)
        if announced:
            line, number = _read_documents(line, announced, physical, number)
        lines.append(line)
    return lines


def parse_heredoc(word: str) -> Heredoc | None:
    """The here-document that a word (still with its quotes) announces: <<EOF, <<-"EOF", 3<<EOF."""
    match = _HEREDOC.fullmatch(word)
    if match is None:
        return None
    descriptor, dash, quoted = match.groups()
    name = re.sub(r"""(["'])(.*?)\1""", r"\2", quoted)
    name = re.sub(r"\\(.)", r"\1", name)
    if not name:
        return None
    return Heredoc(name, expand=name == quoted, strip_tabs=bool(dash), descriptor=int(descriptor or 0))


def _join(physical: list[str], start: int, escape: str) -> tuple[LogicalLine, int]:
    """The logical line that begins at an index, and the index after it."""
    token = re.escape(escape)
    # Two escape characters at the end are an escaped one, not a continuation.
    continued = re.compile(rf"(?:(?<!{token}){token}|^{token})[ \t]*$")
    pieces: list[str] = []
    empty: list[int] = []
    last = number = start
    while number < len(physical):
        line = physical[number].rstrip("\r")
        number += 1
        if pieces and (not line.strip() or line.lstrip().startswith("#")):
            if not line.strip():
                empty.append(number)
            continue
        pieces.append(continued.sub("", line))
        last = number
        if not continued.search(line):
            break
    text = "".join(pieces).strip()
    return LogicalLine(text, Location(start + 1, last), empty_continuations=tuple(empty)), number


def _announced(text: str, escape: str) -> list[Heredoc]:
    """The here-documents that an instruction which can have some announces, in order."""
    keyword, *rest = text.split(maxsplit=1)
    if not rest:
        return []
    if keyword.upper() == "ONBUILD":
        return _announced(rest[0], escape)
    if keyword.upper() not in _WITH_HEREDOCS:
        return []
    return [heredoc for word in split_words(rest[0], escape) if (heredoc := parse_heredoc(word))]


def _read_documents(
    line: LogicalLine, announced: list[Heredoc], physical: list[str], start: int
) -> tuple[LogicalLine, int]:
    """The line with the text of its here-documents, and the index after the last of them."""
    documents: list[Heredoc] = []
    number = start
    for heredoc in announced:
        raw = ""
        while True:
            if number == len(physical):
                raise _unterminated(heredoc, line.location)
            text = physical[number]
            number += 1
            bare = text.lstrip("\t") if heredoc.strip_tabs else text
            if bare.rstrip("\r") == heredoc.name:
                break
            raw += text + "\n"
        documents.append(replace(heredoc, raw=raw))
    location = Location(line.location.first, number)
    return replace(line, location=location, heredocs=tuple(documents)), number


def _unterminated(heredoc: Heredoc, location: Location) -> DockerfileError:
    clean = re.match(r"\w+", heredoc.name)
    if clean and clean[0] != heredoc.name:
        hint = f"the name of the here-document is {heredoc.name!r}; put a space behind {clean[0]!r}"
    else:
        hint = f"end it with a line that holds {heredoc.name!r} alone"
    return DockerfileError(
        f"dockerfile parse error on line {location.first}: unterminated heredoc", location=location, hint=hint
    )
