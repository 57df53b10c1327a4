"""Patterns of ${name#pattern} and ${name/pattern/word}."""

from __future__ import annotations

import pytest

from seom.build.dockerfile.patterns import Pattern


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("a*", "aabab", (1, 5, 2, 5)),
        ("*b", "aabab", (3, 5, 1, 5)),
        ("a?", "aabab", (2, 2, 2, 2)),
        ("", "ab", (0, 0, 0, 0)),
        ("*", "ab", (0, 2, 0, 2)),
        ("x", "ab", (None, None, None, None)),
        (r"\*", "*a*", (1, 1, 1, 1)),
    ],
)
def test_a_pattern_has_shortest_and_longest_matches(
    pattern: str, text: str, expected: tuple[int | None, ...]
) -> None:
    compiled = Pattern(pattern)
    assert (
        compiled.prefix(text, longest=False),
        compiled.prefix(text, longest=True),
        compiled.suffix(text, longest=False),
        compiled.suffix(text, longest=True),
    ) == expected


@pytest.mark.parametrize(
    ("pattern", "text", "first", "every"),
    [
        ("a", "banana", "b-nana", "b-n-n-"),
        ("a*", "banana", "b-", "b-"),
        ("?n", "banana", "b-ana", "b--a"),
        ("*", "abc", "-", "-"),
        ("*", "", "-", "-"),
        ("", "ab", "-ab", "-a-b-"),
        ("x", "ab", "ab", "ab"),
    ],
)
def test_matches_are_replaced(pattern: str, text: str, first: str, every: str) -> None:
    assert Pattern(pattern).replace(text, "-", everywhere=False) == first
    assert Pattern(pattern).replace(text, "-", everywhere=True) == every


@pytest.mark.timeout(10)
def test_many_stars_take_no_forever() -> None:
    pattern = Pattern("*a" * 30 + "b")
    assert pattern.prefix("a" * 5000, longest=True) is None
    assert pattern.replace("a" * 5000, "", everywhere=True) == "a" * 5000
