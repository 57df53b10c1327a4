"""Text of a Dockerfile -> instructions (readers.py) and stages (dockerfile.py)."""

from __future__ import annotations

from dataclasses import replace

from seom.build.dockerfile.dockerfile import Dockerfile, Stage
from seom.build.dockerfile.errors import DockerfileError, Location
from seom.build.dockerfile.instructions import Arg, From, Instruction
from seom.build.dockerfile.lines import DEFAULT_ESCAPE, LogicalLine, read_directives, read_lines
from seom.build.dockerfile.readers import Statement, read_instruction


def parse(text: str) -> Dockerfile:
    """Read a Dockerfile; raises DockerfileError, with the place of the mistake."""
    try:
        return _parse(text)
    except DockerfileError as error:
        raise error.at(Location(1, 1), text) from error.__cause__


def parse_instruction(text: str, location: Location) -> Instruction:
    """Read a trigger as ONBUILD stores it in an image; raises DockerfileError.

    location is that of the FROM which executes it: where the text once stood nobody knows.
    """
    lines = read_lines(text, DEFAULT_ESCAPE)
    if len(lines) != 1:
        raise DockerfileError(f"ONBUILD trigger must be one instruction: {text}", location=location)
    return _instruction(replace(lines[0], location=location), DEFAULT_ESCAPE)


def _parse(text: str) -> Dockerfile:
    directives = read_directives(text)
    lines = read_lines(text, directives.escape)
    if not lines:
        raise DockerfileError("file with no instructions", hint="a Dockerfile begins with FROM")
    arguments: list[Arg] = []
    stages: list[tuple[From, list[Instruction]]] = []
    for line in lines:
        instruction = _instruction(line, directives.escape)
        if isinstance(instruction, From):
            stages.append((instruction, []))
        elif stages:
            stages[-1][1].append(instruction)
        elif isinstance(instruction, Arg):
            arguments.append(instruction)
        else:
            raise DockerfileError(
                "no build stage in current context",
                location=line.location,
                hint="only ARG may stand before the first FROM",
            )
    return Dockerfile(
        text=text,
        directives=directives,
        arguments=tuple(arguments),
        stages=tuple(_stage(index, start, body) for index, (start, body) in enumerate(stages)),
        lines=tuple(lines),
    )


def _stage(index: int, start: From, body: list[Instruction]) -> Stage:
    last = body[-1].location.last if body else start.location.last
    location = Location(start.location.first, last)
    return Stage(start.base, start.name, start.platform, tuple(body), index, location, start)


def _instruction(line: LogicalLine, escape: str) -> Instruction:
    statement = Statement(line, escape)
    try:
        return read_instruction(statement)
    except DockerfileError as error:
        raise DockerfileError(
            f"dockerfile parse error on line {line.location.first}: {error.message}",
            location=line.location,
            hint=error.hint,
        ) from error.__cause__
