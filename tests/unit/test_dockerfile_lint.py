"""Findings of lint, with the names and words of `docker build --check`."""

from __future__ import annotations

import pytest

from seom.build.dockerfile import DockerfileError, IgnoreRules, parse
from seom.build.dockerfile.checks import Checks, Rule, parse_checks
from seom.build.dockerfile.lint import Context, lint


def found(text: str, context: Context | None = None) -> list[str]:
    return [str(finding) for finding in lint(parse(text), context)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM a AS Build", ["StageNameCasing: Stage name 'Build' should be lowercase (line 1)"]),
        ("FROM a as b", ["FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)"]),
        ("from a as b", []),
        (
            "FROM --platform=$BUILDPLATFORM a AS Build",
            ["StageNameCasing: Stage name 'Build' should be lowercase (line 1)"],
        ),
        (
            "FROM a\nRUN x \\\n\n  y \\\n\n  z\nRUN x \\\n # comment\n  y",
            ["NoEmptyContinuation: Empty continuation line (line 3)"],
        ),
        (
            "FROM a\nrun x\nUSER y\nUser z",
            [
                "ConsistentInstructionCasing: Command 'run' should match the case of the command majority "
                "(uppercase) (line 2)",
                "ConsistentInstructionCasing: Command 'User' should match the case of the command majority "
                "(uppercase) (line 4)",
            ],
        ),
        (
            "from a\nrun x\nUSER y",
            [
                "ConsistentInstructionCasing: Command 'USER' should match the case of the command majority "
                "(lowercase) (line 3)"
            ],
        ),
        (
            "FROM a AS x\nFROM b AS x",
            ['DuplicateStageName: Duplicate stage name "x", stage names should be unique (line 2)'],
        ),
        (
            "FROM a AS context",
            [
                "ReservedStageName: Stage name should not use the same name as reserved stage "
                '"context" (line 1)'
            ],
        ),
        (
            'FROM a\nCMD x\nENTRYPOINT ["y"]',
            [
                "JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior "
                "related to OS signals (line 2)"
            ],
        ),
        ('FROM a\nSHELL ["/bin/bash", "-c"]\nCMD x', []),
        ('FROM a AS b\nSHELL ["/bin/bash", "-c"]\nFROM b\nENTRYPOINT x', []),
        (
            "FROM a\nMAINTAINER x",
            ["MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 2)"],
        ),
        (
            "ARG version=1\nFROM a:$verison",
            [
                "InvalidDefaultArgInFrom: Default value for ARG a:$verison results in empty or invalid base "
                "image name (line 2)",
                "UndefinedArgInFrom: FROM argument 'verison' is not declared (did you mean version?) "
                "(line 2)",
            ],
        ),
        ("FROM --platform=$BUILDPLATFORM a", []),
        (
            "ARG image\nFROM $image",
            [
                "InvalidDefaultArgInFrom: Default value for ARG $image results in empty or invalid base "
                "image name (line 2)"
            ],
        ),
        ("ARG image\nFROM ${image:-a}", []),
        (
            "FROM a\nWORKDIR x\nWORKDIR /y\nWORKDIR z",
            [
                'WorkdirRelativePath: Relative workdir "x" can have unexpected results if the base image '
                "changes (line 2)"
            ],
        ),
        ("FROM a AS b\nWORKDIR /x\nFROM b\nWORKDIR y", []),
        (
            'FROM a\nCMD ["x"]\nCMD ["y"]\nFROM b\nCMD ["z"]',
            [
                "MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same "
                "stage because only the last one will be used (line 2)"
            ],
        ),
        (
            "FROM a\nENV x y\nLABEL x y",
            [
                'LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" '
                "format (line 2)",
                'LegacyKeyValueFormat: "LABEL key=value" should be used instead of legacy '
                '"LABEL key value" format (line 3)',
            ],
        ),
        (
            "FROM --platform=${TARGETPLATFORM} a",
            [
                "RedundantTargetPlatform: Setting platform to predefined ${TARGETPLATFORM} in FROM is "
                "redundant as this is the default behavior (line 1)"
            ],
        ),
        (
            "FROM --platform=linux/amd64 a",
            [
                "FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value "
                '"linux/amd64" (line 1)'
            ],
        ),
        ("FROM --platform=linux/amd64 a AS base_amd64", []),
        (
            "FROM a\nARG api_key\nENV DB_PASSWORD=x PUBLIC_KEY=y TOKEN_FILE=z KEYBOARD=u",
            [
                "SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data "
                '(ARG "api_key") (line 2)',
                "SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data "
                '(ENV "DB_PASSWORD") (line 3)',
            ],
        ),
        (
            "FROM a\nEXPOSE 80 443/TCP 127.0.0.1:80:80 53/udp",
            [
                "ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port "
                "mapping, found '127.0.0.1:80:80' (line 2)",
                "ExposeProtoCasing: Defined protocol '443/TCP' in EXPOSE instruction should be lowercase "
                "(line 2)",
            ],
        ),
    ],
)
def test_a_rule_finds_what_it_forbids(text: str, expected: list[str]) -> None:
    assert found(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM scratch\nCOPY $x /a", ["UndefinedVar: Usage of undefined variable '$x' (line 2)"]),
        ("FROM known\nENV b=$HOME c=$x", ["UndefinedVar: Usage of undefined variable '$x' (line 2)"]),
        ("FROM unknown\nUSER $x", []),
        ("FROM unknown\nWORKDIR $GOPATH/src", []),
        ("FROM unknown\nENV VERSION=1\nUSER $PYTHON_VERSION", []),
        (
            "FROM unknown\nARG user\nUSER $usr",
            ["UndefinedVar: Usage of undefined variable '$usr' (did you mean $user?) (line 3)"],
        ),
        (
            "ARG user=x\nFROM unknown\nUSER $user",
            ["UndefinedVar: Usage of undefined variable '$user' (line 3)"],
        ),
        (
            "FROM unknown\nWORKDIR /$TARGETARCH",
            ["UndefinedVar: Usage of undefined variable '$TARGETARCH' (line 2)"],
        ),
        ("FROM scratch\nARG x\nUSER $x", []),
        ("FROM scratch\nENV x=1\nUSER $x", []),
        ("FROM scratch\nENV x=1 y=$x", ["UndefinedVar: Usage of undefined variable '$x' (line 2)"]),
        ("FROM scratch AS a\nENV x=1\nFROM a\nUSER $x", []),
        (
            "FROM scratch AS a\nARG x=1\nFROM a\nUSER $x",
            ["UndefinedVar: Usage of undefined variable '$x' (line 4)"],
        ),
        ("FROM scratch\nUSER ${x:-y}", []),
        ("FROM scratch\nENV PATH=/x:$PATH", []),
        ("FROM scratch\nRUN $x\nCMD [\"$x\"]\nCOPY a '$x'", []),
        (
            "FROM scratch\nRUN --mount=target=$x y",
            ["UndefinedVar: Usage of undefined variable '$x' (line 2)"],
        ),
        ("FROM scratch\nUSER ${x\nUSER ${:}", []),
        ("ARG x=${y\nFROM $x\nUSER $z", []),
    ],
)
def test_undefined_variables_are_found(text: str, expected: list[str]) -> None:
    assert found(text, Context(environments={"known": ["HOME"]})) == expected


@pytest.mark.parametrize(
    ("instruction", "ignore", "expected"),
    [
        ("COPY x.o /", "*.o", 'Attempting to Copy file "x.o" that is excluded by .dockerignore'),
        ("ADD a/b c /", "a", 'Attempting to Add file "a/b" that is excluded by .dockerignore'),
        ("COPY $name /", "x", 'Attempting to Copy file "x" that is excluded by .dockerignore'),
        ("COPY x.o /", "*.o\n!y.o", None),
        ("COPY --from=y x.o /", "*.o", None),
        ("COPY . /", "*", None),
        ("ADD https://a/x.o /", "**/*.o", None),
    ],
)
def test_copying_ignored_files_is_found(instruction: str, ignore: str, expected: str | None) -> None:
    text = f"FROM scratch\nARG name=x\n{instruction}"
    messages = [finding.message for finding in lint(parse(text), Context(ignore=IgnoreRules(ignore)))]
    assert messages == ([expected] if expected else [])


def test_an_argument_of_the_build_counts_in_paths() -> None:
    context = Context(given={"name": "x"}, ignore=IgnoreRules("x"))
    assert len(found("FROM scratch\nARG name\nCOPY $name /", context)) == 1


@pytest.mark.parametrize(
    ("directive", "expected"),
    [
        ("skip=all", []),
        ("skip=MaintainerDeprecated", ["JSONArgsRecommended"]),
        ("skip=jsonargsrecommended, MaintainerDeprecated", []),
        ("error=true", ["MaintainerDeprecated", "JSONArgsRecommended"]),
        (
            "experimental=all",
            ["InvalidDefinitionDescription", "MaintainerDeprecated", "JSONArgsRecommended"],
        ),
    ],
)
def test_the_check_directive_chooses_rules(directive: str, expected: list[str]) -> None:
    text = f"# check={directive}\n\n# the base\nFROM a AS base\nMAINTAINER b\nCMD c"
    assert [finding.rule.name for finding in lint(parse(text))] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "# other text\nARG x",
            "Comment for ARG should follow the format: `# x <description>`",
        ),
        ("# x is for y\nARG x", None),
        ("# other\n# x is for y\nARG x", None),
        ("# other\n\nARG x", None),
        ("# other\n#\nARG x", None),
        ("# other\nUSER x", None),
        ("# other\nARG x y", "Comment for ARG should follow the format: `# <arg_key> <description>`"),
    ],
)
def test_descriptions_begin_with_a_name(text: str, expected: str | None) -> None:
    findings = lint(parse(f"# check=experimental=InvalidDefinitionDescription\nFROM a\n{text}"))
    assert [finding.message for finding in findings] == ([expected] if expected else [])


def test_a_check_directive_is_read() -> None:
    assert parse_checks("skip=StageNameCasing;error=true") == Checks(
        frozenset({Rule.StageNameCasing}), frozenset(), error=True
    )
    with pytest.raises(DockerfileError, match=r'invalid check option "skp" \(did you mean skip\?\)'):
        parse_checks("skp=all")


def test_a_finding_is_rendered_with_its_place() -> None:
    text = "FROM alpine\nCMD echo hello\n"
    (finding,) = lint(parse(text))
    assert finding.render(text) == (
        "WARNING: JSONArgsRecommended - https://docs.docker.com/go/dockerfile/rule/json-args-recommended/\n"
        "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals\n"
        "Dockerfile:2\n"
        "--------------------\n"
        "   1 |     FROM alpine\n"
        "   2 | >>> CMD echo hello\n"
        "--------------------"
    )
    assert Rule.StageNameCasing.url.endswith("/rule/stage-name-casing/")


def test_an_argument_of_the_build_chooses_rules_before_the_directive() -> None:
    dockerfile = parse("# check=skip=all\nFROM a\nCMD b")
    assert lint(dockerfile) == []
    context = Context(given={"BUILDKIT_DOCKERFILE_CHECK": "skip=StageNameCasing"})
    assert [finding.rule for finding in lint(dockerfile, context)] == [Rule.JSONArgsRecommended]
