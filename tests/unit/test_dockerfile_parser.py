"""Dockerfile text -> instructions and stages."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from seom.build.dockerfile import DockerfileError, Location, parse, parse_instruction
from seom.build.dockerfile.instructions import (
    Argument,
    Command,
    Copy,
    Instruction,
    KeyValue,
    Onbuild,
    Run,
    Transfer,
)

SECOND_NS = 1_000_000_000


def only(text: str) -> Instruction:
    """The single instruction of a stage that consists of nothing else."""
    (instruction,) = parse(f"FROM debian\n{text}\n").stages[0].instructions
    return instruction


def said(instruction: Instruction) -> dict[str, Any]:
    """The fields of an instruction that differ from their defaults, without its place and text."""
    values = {}
    for field in fields(instruction):
        value = getattr(instruction, field.name)
        if field.name not in {"location", "original", "trigger"} and value != field.default:
            values[field.name] = value
    return values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ARG a", {"arguments": (Argument("a"),)}),
        ("ARG a=1 b c=", {"arguments": (Argument("a", "1"), Argument("b"), Argument("c", ""))}),
        ('ARG a="x y"', {"arguments": (Argument("a", '"x y"'),)}),
        ("ENV a=1 b='x y'", {"variables": (KeyValue("a", "1"), KeyValue("b", "'x y'"))}),
        (r"ENV a=x\ y", {"variables": (KeyValue("a", r"x\ y"),)}),
        ("ENV a=b=c", {"variables": (KeyValue("a", "b=c"),)}),
        ("ENV name the value", {"variables": (KeyValue("name", "the value"),), "legacy": True}),
        ("ENV name a=b", {"variables": (KeyValue("name", "a=b"),), "legacy": True}),
        ("LABEL a.b=1 'c d'=e", {"labels": (KeyValue("a.b", "1"), KeyValue("'c d'", "e"))}),
        ("RUN echo  hello", {"command": Command(("echo  hello",), shell=True)}),
        ('RUN ["echo", "a b"]', {"command": Command(("echo", "a b"), shell=False)}),
        ('RUN ["echo"] # comment', {"command": Command(("echo",), shell=False)}),
        ('RUN [ "$a" = "b" ]', {"command": Command(('[ "$a" = "b" ]',), shell=True)}),
        ('CMD ["\\ud800"]', {"command": Command(("\ufffd",), shell=False)}),
        ("RUN ['echo', 'a b']", {"command": Command(("['echo', 'a b']",), shell=True)}),
        ("RUN [ -f x ] && y", {"command": Command(("[ -f x ] && y",), shell=True)}),
        ("CMD", {"command": Command((), shell=True)}),
        ("CMD []", {"command": Command((), shell=False)}),
        ("CMD top -b", {"command": Command(("top -b",), shell=True)}),
        ('ENTRYPOINT ["/x"]', {"command": Command(("/x",), shell=False)}),
        ("COPY a b /c/", {"sources": ("a", "b"), "destination": "/c/"}),
        ("COPY a\u00a0b\tc  /d", {"sources": ("a\u00a0b", "c"), "destination": "/d"}),
        ("COPY 'a b' /c", {"sources": ("'a", "b'"), "destination": "/c"}),
        ('COPY ["a b", "/c"]', {"sources": ("a b",), "destination": "/c"}),
        (
            "COPY --from=base --chown=1:2 --chmod=0644 --link --parents a /b",
            {
                "sources": ("a",),
                "destination": "/b",
                "origin": "base",
                "chown": "1:2",
                "chmod": "0644",
                "link": True,
                "parents": True,
            },
        ),
        (
            "COPY --exclude=*.md --exclude='a b' --link=false . /b",
            {"sources": (".",), "destination": "/b", "exclude": ("*.md", "a b")},
        ),
        (
            "ADD --checksum=sha256:00 --unpack=false --keep-git-dir https://x/y /z",
            {
                "sources": ("https://x/y",),
                "destination": "/z",
                "checksum": "sha256:00",
                "unpack": False,
                "keep_git_dir": True,
            },
        ),
        ("MAINTAINER A <a@b>", {"name": "A <a@b>"}),
        ("EXPOSE 80 443/tcp $PORTS", {"ports": ("$PORTS", "443/tcp", "80")}),
        ("VOLUME /a /b", {"paths": ("/a", "/b")}),
        ('VOLUME ["/a b"]', {"paths": ("/a b",)}),
        ("USER a:b", {"user": "a:b"}),
        ("WORKDIR /a b", {"path": "/a b"}),
        ('SHELL ["/bin/bash", "-c"]', {"arguments": ("/bin/bash", "-c")}),
        ("STOPSIGNAL SIGINT", {"signal": "SIGINT"}),
        ("HEALTHCHECK NONE", {"test": ("NONE",)}),
        ("HEALTHCHECK CMD a || b", {"test": ("CMD-SHELL", "a || b")}),
        (
            'HEALTHCHECK --interval=1m30s --timeout=.5s --retries=4 cmd ["a", "b"]',
            {
                "test": ("CMD", "a", "b"),
                "interval_ns": 90 * SECOND_NS,
                "timeout_ns": SECOND_NS // 2,
                "retries": 4,
            },
        ),
        (
            "HEALTHCHECK --start-period=1h --start-interval=250ms CMD x",
            {
                "test": ("CMD-SHELL", "x"),
                "start_period_ns": 3600 * SECOND_NS,
                "start_interval_ns": SECOND_NS // 4,
            },
        ),
        ("ONBUILD RUN x", {"expression": "RUN x"}),
        ("run --network=none x", {"command": Command(("x",), shell=True), "network": "none"}),
        ("RUN --security=insecure x", {"command": Command(("x",), shell=True), "security": "insecure"}),
        ("RUN -- --odd", {"command": Command(("--odd",), shell=True)}),
        (
            "RUN --mount=type=cache,target=/c --mount=target=. make",
            {"command": Command(("make",), shell=True), "mount_flags": ("type=cache,target=/c", "target=.")},
        ),
    ],
)
def test_an_instruction_is_read(text: str, expected: dict[str, Any]) -> None:
    assert said(only(text)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RUNN x", "unknown instruction: RUNN (did you mean RUN?)"),
        ("COPPY a b", "unknown instruction: COPPY (did you mean COPY?)"),
        ("&& x", "unknown instruction: &&"),
        ("FROM", "FROM requires either one or three arguments"),
        ("FROM a b", "FROM requires either one or three arguments"),
        (
            "FROM a AS 1b",
            'invalid name for build stage: "1b", name can\'t start with a number or contain symbols',
        ),
        ("ARG", "ARG requires at least one argument"),
        ("ARG =x", "ARG names can not be blank"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV a", "ENV must have two arguments"),
        ("ENV =a", "ENV names can not be blank"),
        ("ENV a=b c", 'Syntax error - can\'t find = in "c". Must be of the form: name=value'),
        ("RUN", "RUN requires at least one argument"),
        ('RUN ["a", 1]', "when using JSON array syntax, arrays must be comprised of strings only"),
        ("RUN --mout=x y", "unknown flag: --mout (did you mean --mount?)"),
        ("RUN --network x", "missing a value on flag: network"),
        ("RUN --network=nonee x", 'network mode "nonee" is not valid (did you mean none?)'),
        ("RUN --mount=type=cash,target=/x y", 'unsupported mount type "cash" (did you mean cache?)'),
        (
            "RUN --mount=from=$X,target=/x y",
            "'from' doesn't support variable expansion, define alias stage instead",
        ),
        (
            "COPY a",
            "COPY requires at least two arguments, but only one was provided. "
            "Destination could not be determined",
        ),
        ("COPY --link=x a b", "expecting boolean value for flag link, not: x"),
        ("COPY --from=a --from=b c d", "duplicate flag specified: from"),
        ("ADD --from=a c d", "unknown flag: --from"),
        ("COPY a <<X\nX", "COPY cannot accept a heredoc as a destination"),
        (
            "COPY --from=$X a b",
            "variable expansion is not supported for --from, "
            "define a new stage with FROM using ARG from global scope as a workaround",
        ),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("USER", "USER requires exactly one argument"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("VOLUME []", "VOLUME requires at least one argument"),
        ('VOLUME [" "]', "VOLUME specified can not be an empty string"),
        ("SHELL /bin/sh", "SHELL requires the arguments to be in JSON form"),
        ("SHELL []", "SHELL requires at least one argument"),
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK FOO x", 'Unknown type "FOO" in HEALTHCHECK (try CMD)'),
        ("HEALTHCHECK --interval=5 CMD x", 'time: missing unit in duration "5"'),
        ("HEALTHCHECK --interval=5ns CMD x", 'Interval "interval" cannot be less than 1ms'),
        ("HEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative (-1)"),
        ("ONBUILD", "ONBUILD requires at least one argument"),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD from x", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD RUNN x", "unknown instruction: RUNN (did you mean RUN?)"),
        ("RUN cat <<EOF\nx", "unterminated heredoc"),
    ],
)
def test_a_mistake_is_named_in_dockers_words_with_its_line(text: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        parse(f"FROM debian\n\n{text}\n")
    assert str(caught.value) == f"dockerfile parse error on line 3: {message}"
    assert caught.value.location is not None
    assert caught.value.location.first == 3


def test_a_mistake_is_rendered_with_an_excerpt() -> None:
    with pytest.raises(DockerfileError) as caught:
        parse("FROM debian\nENV a=1\nRUN x \\\n  y\nRUNN z\n\nCMD sh\nUSER 1\n")
    assert caught.value.render("web/Dockerfile") == (
        "web/Dockerfile:5\n"
        "--------------------\n"
        "   3 |     RUN x \\\n"
        "   4 |       y\n"
        "   5 | >>> RUNN z\n"
        "   6 |\n"
        "   7 |     CMD sh\n"
        "--------------------\n"
        "dockerfile parse error on line 5: unknown instruction: RUNN (did you mean RUN?)"
    )


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("RUN a\n&& b", "does the line before lack a continuation character at its end?"),
        ('CMD ["a",\n"b"]', "does the line before lack a continuation character at its end?"),
        ("FROM debian # the base", "a comment needs a line of its own"),
        ("FROM debian base", "write FROM IMAGE, or FROM IMAGE AS NAME"),
        ("HEALTHCHECK --interval=5 CMD x", "write a unit behind the number: 30s, 1m30s, 500ms"),
        ("SHELL /bin/bash", 'for instance SHELL ["/bin/bash", "-c"]'),
        ("ENV a=b c", "a value with spaces needs quotes"),
        ("RUN --network x", "write --network=VALUE"),
    ],
)
def test_a_hint_says_what_to_do(text: str, hint: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        parse(f"FROM debian\n{text}")
    assert caught.value.render().splitlines()[-1] == f"hint: {hint}"


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n"])
def test_a_file_without_instructions_is_refused(text: str) -> None:
    with pytest.raises(DockerfileError, match="file with no instructions"):
        parse(text)


def test_only_arguments_may_stand_before_the_first_stage() -> None:
    with pytest.raises(DockerfileError, match="no build stage in current context") as caught:
        parse("ARG a=1\nRUN x\nFROM debian")
    assert caught.value.location == Location(2, 2)


@pytest.mark.parametrize(
    ("text", "command", "location"),
    [
        ("RUN a \\\n  b", "a   b", (2, 3)),
        ("RUN a \\  \n  b \\\n c", "a   b  c", (2, 4)),
        ("RUN a \\\n# comment\n  # another\n b", "a  b", (2, 5)),
        ("RUN a \\\n\n b", "a  b", (2, 4)),
        ("RUN a \\\\\nRUN b", "a \\\\", (2, 2)),
        ("RUN a \\", "a", (2, 2)),
        ("  RUN a # no comment", "a # no comment", (2, 2)),
        ("RUN\ta", "a", (2, 2)),
        ("RUN \\\n a", "a", (2, 3)),
        ("RUN a\r", "a", (2, 2)),
        ("RUN a \\\r\n b\r", "a  b", (2, 3)),
    ],
)
def test_continuations_are_joined(text: str, command: str, location: tuple[int, int]) -> None:
    run = parse(f"FROM debian\n{text}").stages[0].instructions[0]
    assert isinstance(run, Run)
    assert run.command.arguments == (command,)
    assert run.location == Location(*location)


def test_the_escape_directive_changes_continuations_and_words() -> None:
    file = parse("# escape=`\n\nFROM debian\nRUN a `\n b\nENV a=x` y b=\\\n")
    run, env = file.stages[0].instructions
    assert said(run) == {"command": Command(("a  b",), shell=True)}
    assert said(env) == {"variables": (KeyValue("a", "x` y"), KeyValue("b", "\\"))}
    assert file.escape == "`"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# syntax=docker/dockerfile:1\n# check=skip=all\n", ("docker/dockerfile:1", "\\", "skip=all")),
        ("#syntax = x \n#  ESCAPE=`\n", ("x", "`", "")),
        ("# comment\n# escape=`\n", ("", "\\", "")),
        ("\n# escape=`\n", ("", "\\", "")),
        ("# unknown=1\n# escape=`\n", ("", "\\", "")),
        ("\ufeff# syntax=x\n", ("x", "\\", "")),
        ("#!/usr/bin/env docker\n# syntax=x\n", ("x", "\\", "")),
    ],
)
def test_directives_stand_first(text: str, expected: tuple[str, str, str]) -> None:
    found = parse(text + "FROM debian").directives
    assert (found.syntax, found.escape, found.check) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# escape=`\n# escape=`\n", "only one escape parser directive can be used"),
        ("# escape=x\n", "invalid escape token 'x' does not match ` or \\"),
    ],
)
def test_impossible_directives_are_refused(text: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        parse(text + "FROM debian")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "script", "line"),
    [
        ("RUN <<EOF\na\nb\nEOF", "a\nb\n", "a\nb\n"),
        ("RUN <<-EOF\n\ta\n\t\tb\n\tEOF", "a\nb\n", "a\nb\n"),
        ("RUN <<'EOF'\n$a\nEOF", "$a\n", "$a\n"),
        ("RUN <<EOF\n# not a comment\n\\\n\nEOF", "# not a comment\n\\\n\n", "# not a comment\n\\\n\n"),
        ("RUN cat <<EOF >/x\na\nEOF", None, "cat <<EOF >/x\na\nEOF"),
        ("RUN <<EOF cat\na\nEOF", None, "<<EOF cat\na\nEOF"),
        ("RUN cat <<-A 3<<B\n\ta\n\tA\nb\nB", None, "cat <<-A 3<<B\n\ta\nA\nb\nB"),
        ("RUN a \\\n <<EOF\nb\nEOF", None, "a  <<EOF\nb\nEOF"),
        ("RUN echo '<<EOF'", None, "echo '<<EOF'"),
        ("RUN echo $((1 << 2)) 1<<<x", None, "echo $((1 << 2)) 1<<<x"),
    ],
)
def test_heredocs_of_run(text: str, script: str | None, line: str) -> None:
    run = only(text)
    assert isinstance(run, Run)
    assert (run.script, run.shell_line) == (script, line)


def test_instructions_go_on_behind_a_heredoc() -> None:
    run, user = parse("FROM debian\nRUN <<A cat <<B\nUSER a\nA\nB\nUSER b\n").stages[0].instructions
    assert run.location == Location(2, 5)
    assert user.location == Location(6, 6)


def test_heredocs_of_copy_are_files() -> None:
    copy = only("COPY <<a.txt x <<-'b.txt' /dir/\n1$x\na.txt\n\t2$x\n\tb.txt")
    assert isinstance(copy, Copy)
    assert copy.sources == ("x",)
    assert [(each.name, each.content, each.expand) for each in copy.documents] == [
        ("a.txt", "1$x\n", True),
        ("b.txt", "2$x\n", False),
    ]


def test_onbuild_keeps_its_trigger_with_heredocs() -> None:
    onbuild = only("ONBUILD COPY <<EOF /x\na\nEOF")
    assert isinstance(onbuild, Onbuild)
    assert onbuild.expression == "COPY <<EOF /x\na\nEOF"
    assert isinstance(onbuild.trigger, Transfer)
    trigger = parse_instruction(onbuild.expression, Location(7, 7))
    assert isinstance(trigger, Transfer)
    assert trigger.documents == onbuild.trigger.documents
    assert trigger.location == Location(7, 7)


def test_a_heredoc_name_that_swallows_an_operator_is_explained() -> None:
    with pytest.raises(DockerfileError) as caught:
        parse("FROM debian\nRUN cat <<EOF>/x\na\nEOF\n")
    assert caught.value.hint == "the name of the here-document is 'EOF>/x'; put a space behind 'EOF'"


def test_stages_have_names_platforms_and_places() -> None:
    file = parse("ARG v=1\nFROM --platform=$BUILDPLATFORM go:$v AS Build\nRUN x\n\nfrom scratch\n")
    build, last = file.stages
    assert (build.base, build.name, build.platform, build.index) == ("go:$v", "build", "$BUILDPLATFORM", 0)
    assert build.location == Location(2, 3)
    assert (last.base, last.name, last.index, last.location) == ("scratch", "", 1, Location(5, 5))
    assert file.arguments[0].arguments == (Argument("v", "1"),)
