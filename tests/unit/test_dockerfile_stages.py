"""Which stages of a Dockerfile a target needs."""

from __future__ import annotations

import pytest

from seom.build.dockerfile import DockerfileError, parse

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
    ("text", "message"),
    [
        (
            "FROM a AS x\nCOPY --from=y a b\nFROM b AS y",
            'cannot copy from stage "y", it needs to be defined before current stage "x"',
        ),
        (
            "FROM a AS x\nRUN --mount=from=x,target=/y z",
            'cannot copy from stage "x", it needs to be defined before current stage "x"',
        ),
        ("FROM a\nCOPY --from=0 a b", "invalid stage index 0"),
    ],
)
def test_a_stage_takes_nothing_from_itself_or_later_ones(text: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        parse(text).stages_needed("0")
    assert str(caught.value) == message
    assert caught.value.location is not None
    assert caught.value.location.first == 2


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
