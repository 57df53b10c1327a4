"""Words of a Dockerfile -> their values."""

from __future__ import annotations

import pytest

from seom.build.dockerfile import DockerfileError, Scope, expand

VARIABLES = {
    "a": "1",
    "empty": "",
    "path": "/usr/local/lib/x.tar.gz",
    "b_2": "two",
    "star": "a*b*c",
    "5": "five",
    "lines": "x\ny",
}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("plain", "plain"),
        ("$a", "1"),
        ("${a}", "1"),
        ("x$a.y${a}z", "x1.y1z"),
        ("$b_2!", "two!"),
        ("$ab", ""),
        ("${unset}", ""),
        ("$", "$"),
        ("a$ b", "a$ b"),
        ("$.", "$."),
        ("$5x", "fivex"),
        ("$5", "five"),
        ("$$a", "a"),
        (r"\$a", "$a"),
        (r"\${a}", "${a}"),
        (r"\\$a", r"\1"),
        ("x\\", "x"),
        (r"x\ y", "x y"),
        ("'$a'", "$a"),
        (r"'\x'", r"\x"),
        ('"$a b"', "1 b"),
        (r'"\$a"', "$a"),
        (r'"\"x\\\y"', r'"x\\y'),
        ('"it\'s"', "it's"),
        ("'a'\"b\"c", "abc"),
        ("a b  c", "a b  c"),
        ("${a:-x}", "1"),
        ("${empty:-x}", "x"),
        ("${unset:-x}", "x"),
        ("${empty-x}", ""),
        ("${unset-x}", "x"),
        ("${unset:-$a}", "1"),
        ("${unset:-${empty:-${a}}}", "1"),
        ("${unset:-'a b'}", "a b"),
        (r"${unset:-\}}", "}"),
        ("${unset:-}", ""),
        ("${a:+x}", "x"),
        ("${empty:+x}", ""),
        ("${empty+x}", "x"),
        ("${unset+x}", ""),
        ("${a:+-$b_2}", "-two"),
        ("${a:?no}", "1"),
        ("${empty?no}", ""),
        ("${path#*/}", "usr/local/lib/x.tar.gz"),
        ("${path##*/}", "x.tar.gz"),
        ("${path%.*}", "/usr/local/lib/x.tar"),
        ("${path%%.*}", "/usr/local/lib/x"),
        ("${path%nothing}", "/usr/local/lib/x.tar.gz"),
        ("${path#/usr}", "/local/lib/x.tar.gz"),
        ("${path%/?.*}", "/usr/local/lib"),
        ("${a#?}", ""),
        ("${unset##*/}", ""),
        (r"${star#a\*}", "b*c"),
        ("${star##*[}", "a*b*c"),
        ("${path%.$unset*}", "/usr/local/lib/x.tar"),
        ("${path/l/L}", "/usr/Local/lib/x.tar.gz"),
        ("${path//l/L}", "/usr/LocaL/Lib/x.tar.gz"),
        (r"${path//\//-}", "-usr-local-lib-x.tar.gz"),
        ("${path//./}", "/usr/local/lib/xtargz"),
        (r"${star/\*/+}", "a+b*c"),
        ("${star/*/+}", "+"),
        ("${path/x/$b_2}", "/usr/local/lib/two.tar.gz"),
        ("${lines#*x}", "\ny"),
    ],
)
def test_a_word_has_a_value(word: str, expected: str) -> None:
    assert expand(word, VARIABLES) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [("`$a", "$a"), (r"c:\x\$a", r"c:\x\1"), ("a` b", "a b"), ('"`""', '"'), (r"\\", r"\\")],
)
def test_the_escape_character_may_be_a_backquote(word: str, expected: str) -> None:
    assert expand(word, VARIABLES, "`") == expected


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("${a", "failed to process \"${a\": syntax error: missing '}'"),
        ("${", "failed to process \"${\": syntax error: missing '}'"),
        ("${a:-b", "failed to process \"${a:-b\": syntax error: missing '}'"),
        ("${a/b}", "failed to process \"${a/b}\": syntax error: missing '/' in ${}"),
        ("${}", 'failed to process "${}": syntax error: bad substitution'),
        ("${:x}", 'failed to process "${:x}": syntax error: bad substitution'),
        ("${a:x}", 'failed to process "${a:x}": unsupported modifier (:x) in substitution'),
        ("${a^}", 'failed to process "${a^}": unsupported modifier (^) in substitution'),
        ("${unset:?}", 'failed to process "${unset:?}": unset: is not allowed to be unset'),
        ("${empty:?}", 'failed to process "${empty:?}": empty: is not allowed to be empty'),
        ("${unset?give it}", 'failed to process "${unset?give it}": unset: give it'),
        (
            "'a",
            'failed to process "\'a": unexpected end of statement while looking for matching single-quote',
        ),
        (
            '"a',
            'failed to process "\\"a": unexpected end of statement while looking for matching double-quote',
        ),
    ],
)
def test_a_malformed_word_is_refused(word: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        expand(word, VARIABLES)
    assert str(caught.value) == message


def test_a_document_keeps_its_quotes_and_expands_within_them() -> None:
    assert Scope(VARIABLES, "`").document("'$a' \"${b_2}\" \\$a it's\n") == "'1' \"two\" $a it's\n"


def test_a_scope_remembers_names_without_a_value() -> None:
    scope = Scope({"a": ""})
    scope.word("$a ${b} '$c' \\$d ${e:-x} $f")
    assert scope.undefined == {"b", "f"}
