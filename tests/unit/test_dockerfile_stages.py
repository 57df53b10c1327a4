"""Which stages of a Dockerfile a target needs."""

from __future__ import annotations

import pytest

from seom.build.dockerfile import DockerfileError, Location, parse

GRAPH = """\
ARG from=first
FROM debian AS first
FROM first AS second
RUN --mount=target=/tool x
FROM debian AS tool
FROM debian AS unused
FROM $from AS third
COPY --from=second /a /b
RUN --mount=from=tool,target=/tool --mount=from=alpine,target=/x y
FROM scratch
COPY --from=0 /a /b
COPY --from=THIRD /a /b
COPY --from=busybox /a /b
"""


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("first", ["first"]),
        ("second", ["first", "second"]),
        ("1", ["first", "second"]),
        ("THIRD", ["first", "second", "tool", "third"]),
        ("unused", ["unused"]),
        ("", ["first", "second", "tool", "third", ""]),
    ],
)
def test_a_target_needs_what_it_is_made_from(target: str, expected: list[str]) -> None:
    needed = parse(GRAPH).stages_needed(target, {"from": "first"})
    assert [stage.name for stage in needed] == expected


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        (
            "FROM a AS x\nCOPY --from=y a b\nFROM b AS y\nRUN --mount=from=x,target=/z z",
            "circular dependency detected on stage: x",
            4,
        ),
        ("FROM a AS x\nRUN --mount=from=x,target=/y z", "circular dependency detected on stage: x", 2),
        ("FROM a\nCOPY --from=0 a b", "circular dependency detected on stage: 0", 2),
        ("FROM a\nCOPY --from=1 a b", "invalid stage index 1", 2),
        ("ARG x\nFROM $x", "base name ($x) should not be blank", 2),
        ("ARG x\nFROM ${x", "failed to process \"${x\": syntax error: missing '}'", 2),
    ],
)
def test_impossible_dependencies_are_named_with_their_line(text: str, message: str, line: int) -> None:
    with pytest.raises(DockerfileError) as caught:
        parse(text).stages_needed("0")
    assert str(caught.value) == message
    assert caught.value.location == Location(line, line)


def test_files_may_come_from_a_later_stage() -> None:
    file = parse("FROM a AS x\nCOPY --from=z a b\nFROM b AS y\nFROM y AS z")
    assert [stage.name for stage in file.stages_needed("x")] == ["y", "z", "x"]


def test_triggers_of_the_base_count() -> None:
    file = parse("FROM a AS tool\nFROM b AS base\nONBUILD COPY --from=tool c d\nFROM base AS last")
    assert [stage.name for stage in file.stages_needed("base")] == ["base"]
    assert [stage.name for stage in file.stages_needed("last")] == ["tool", "base", "last"]


def test_a_long_chain_of_stages_is_followed() -> None:
    chain = "\n".join(f"FROM s{number} AS s{number + 1}" for number in range(2000))
    assert len(parse(chain).stages_needed()) == 2000


def test_an_unknown_target_is_refused_with_a_proposal() -> None:
    with pytest.raises(DockerfileError) as caught:
        parse("FROM a AS build").stages_needed("biuld")
    assert str(caught.value) == 'target stage "biuld" could not be found (did you mean build?)'


def test_of_two_stages_with_one_name_the_nearest_is_meant() -> None:
    file = parse("FROM a AS x\nFROM x AS x\nFROM x AS y\nFROM b AS x")
    assert [stage.index for stage in file.stages_needed("y")] == [0, 1, 2]
    assert file.target("x").index == 3


def test_the_name_of_a_later_stage_in_from_is_an_image() -> None:
    file = parse("FROM debian AS x\nFROM y\nFROM a AS y")
    assert file.base_stage(file.stages[1], {}) is None
