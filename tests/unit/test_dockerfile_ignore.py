""".dockerignore patterns."""

from __future__ import annotations

import pytest

from seom.build.dockerfile import IgnoreRules
from seom.errors import InvalidParameter


@pytest.mark.parametrize(
    ("text", "ignored", "kept"),
    [
        ("a", ["a", "a/b", "a/b/c"], ["b", "ab", "b/a"]),
        ("/a", ["a", "a/b"], ["b/a"]),
        ("a/", ["a", "a/b"], ["b"]),
        ("./a//b/../c", ["a/c"], ["a/b"]),
        ("a/b", ["a/b", "a/b/c"], ["a", "b"]),
        ("*", ["a", ".x", "a/b"], ["."]),
        ("*.o", ["a.o", ".o"], ["a.oo", "d/a.o"]),
        ("*/*.o", ["d/a.o"], ["a.o", "d/e/a.o"]),
        ("**/*.o", ["a.o", "d/a.o", "d/e/a.o", "a.o/x"], ["a.c"]),
        ("**/node_modules", ["node_modules", "a/node_modules/x"], ["xnode_modules"]),
        ("**", ["a", "a/b"], ["."]),
        ("a/**", ["a/b", "a/b/c"], ["a", "ab"]),
        ("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["a/b", "az"]),
        ("**foo", ["foo", "a/foo"], ["xfoo"]),
        ("a?c", ["abc"], ["ac", "a/c", "abbc"]),
        ("[a-c]x", ["ax", "cx"], ["dx", "-x"]),
        ("[a-cx-z0]", ["b", "y", "0"], ["d", "-"]),
        ("[a&&b-c]", ["&", "c"], ["d"]),
        ("a*b*c", ["abc", "aXbbYc", "abcc"], ["ab", "abcd", "a/bc", "aXcb"]),
        ("*a*/*b*c", ["xax/xbxc"], ["xax/xbx", "xbxc"]),
        ("*.*.*", ["a.b.c"], ["a.b", "a.b/.c"]),
        ("[^a]x", ["bx"], ["ax", "/x"]),
        ("[\\]]", ["]"], ["["]),
        (r"\*", ["*"], ["a"]),
        ("a+(b).c$", ["a+(b).c$"], ["aa(b).c$"]),
        ("# a\n a b \n", ["a b"], ["a", "# a"]),
        (" # a", ["# a"], []),
        ("", [], ["a"]),
        ("\ufeffa", ["a"], []),
        ("a\r\nb\r\n", ["a", "b"], []),
        ("*\n!a", ["b", "b/a"], ["a", "a/b"]),
        ("*\n!a\na/b", ["b", "a/b"], ["a", "a/c"]),
        ("*.md\n!README*.md\nREADME-secret.md", ["x.md", "README-secret.md"], ["README.md", "README-1.md"]),
        ("*.md\nREADME-secret.md\n!README*.md", ["x.md"], ["README-secret.md"]),
        ("a\n!a/b/c", ["a", "a/b", "a/b/d"], ["a/b/c", "a/b/c/d"]),
        ("! a\n a", ["a"], []),
        ("a\n! a", [], ["a"]),
        ("dir\n!**/keep", ["dir/x"], ["dir/keep", "keep", "dir/a/keep/b"]),
    ],
)
def test_the_last_matching_pattern_decides(text: str, ignored: list[str], kept: list[str]) -> None:
    rules = IgnoreRules(text)
    assert [path for path in ignored if not rules.ignores(path)] == []
    assert [path for path in kept if rules.ignores(path)] == []


@pytest.mark.parametrize("path", ["a/b", "/a/b", "./a/b", "a//b", "a/b/"])
def test_a_path_may_be_written_in_several_ways(path: str) -> None:
    assert IgnoreRules("a/b").ignores(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n[b", '.dockerignore:2: syntax error in pattern "[b"'),
        ("[z-a]", '.dockerignore:1: syntax error in pattern "[z-a]"'),
        ("[]", '.dockerignore:1: syntax error in pattern "[]"'),
        ("a\\", '.dockerignore:1: syntax error in pattern "a\\"'),
        ("!", '.dockerignore:1: illegal exclusion pattern: "!"'),
    ],
)
def test_a_bad_pattern_is_named_with_its_line(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        IgnoreRules(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "directory", "expected"),
    [
        ("a", "a", False),
        ("a\n!b", "a", False),
        ("a\n!a/b/c", "a", True),
        ("a\n!a/b/c", "a/b", True),
        ("a\n!a/b/c", "a/d", False),
        ("a\n!**/c", "a/d", True),
        ("a\n!*/*.c", "a", True),
        ("a\n!a/b", "a/b/c", True),
    ],
)
def test_a_walk_enters_an_ignored_directory_only_for_an_exception(
    text: str, directory: str, expected: bool
) -> None:
    assert IgnoreRules(text).may_keep_beneath(directory) is expected


@pytest.mark.timeout(10)
def test_many_stars_take_no_forever() -> None:
    assert not IgnoreRules("*a" * 40 + "b").ignores("a" * 255)


def test_a_class_may_hold_a_slash() -> None:
    assert IgnoreRules("a\n!a/[b/c]d").may_keep_beneath("a/x")
