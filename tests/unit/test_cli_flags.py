"""The grammar of docker-style command lines."""

from __future__ import annotations

import pytest

from seom.cli import commands, flags
from seom.cli.container_options import RUN_FLAGS
from seom.cli.errors import UsageError
from seom.cli.flags import Flag

FLAGS = (
    Flag("all", "bool", "", short="a"),
    Flag("env", "list", "", short="e"),
    Flag("format", "string", ""),
    Flag("interactive", "bool", "", short="i"),
    Flag("last", "int", "", short="n", default=-1),
    Flag("memory", "bytes", "", short="m"),
    Flag("proxy", "bool", "", default=True),
    Flag("subnet", "strings", ""),
    Flag("tty", "bool", "", short="t"),
)


def test_every_spelling_of_a_value_is_understood() -> None:
    argv = ["-e", "A=1", "-eB=2", "-e=C=3", "--env", "D=4", "--env=E=5"]
    options, arguments = flags.parse(FLAGS, argv)
    assert options.each("env") == ["A=1", "B=2", "C=3", "D=4", "E=5"]
    assert arguments == []


def test_switches_combine_and_take_explicit_values() -> None:
    options, _ = flags.parse(FLAGS, ["-ita", "--proxy=false"])
    assert [options.on(name) for name in ("interactive", "tty", "all", "proxy")] == [True, True, True, False]
    assert options.changed == {"interactive", "tty", "all", "proxy"}


def test_a_value_may_follow_combined_switches() -> None:
    options, _ = flags.parse(FLAGS, ["-iteA=1"])
    assert options.on("tty")
    assert options.each("env") == ["A=1"]


def test_flags_and_arguments_mix_unless_a_command_follows() -> None:
    options, arguments = flags.parse(FLAGS, ["x", "-a", "y", "--", "-t"])
    assert options.on("all")
    assert arguments == ["x", "y", "-t"]
    options, arguments = flags.parse(FLAGS, ["-i", "image", "ls", "-a"], interspersed=False)
    assert not options.on("all")
    assert arguments == ["image", "ls", "-a"]


def test_a_lone_dash_is_an_argument() -> None:
    assert flags.parse(FLAGS, ["-", "-a"])[1] == ["-"]


def test_defaults_hold_until_a_flag_is_given() -> None:
    options, _ = flags.parse(FLAGS, [])
    assert options.number("last") == -1
    assert options.on("proxy")
    assert options.each("env") == []
    assert options.changed == set()


def test_lists_split_at_commas_where_docker_does() -> None:
    options, _ = flags.parse(FLAGS, ["--subnet", "10.0.0.0/8,fd00::/8", "--subnet", "x", "-e", "a,b"])
    assert options.each("subnet") == ["10.0.0.0/8", "fd00::/8", "x"]
    assert options.each("env") == ["a,b"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--bogus"], "unknown flag: --bogus"),
        (["-x"], "unknown shorthand flag: 'x' in -x"),
        (["-ix"], "unknown shorthand flag: 'x' in -x"),
        (["--env"], "flag needs an argument: --env"),
        (["-e"], "flag needs an argument: 'e' in -e"),
        (["-m", "abc"], 'invalid argument "abc" for "-m, --memory" flag: invalid size: \'abc\''),
        (
            ["-n", "x"],
            'invalid argument "x" for "-n, --last" flag: strconv.ParseInt: parsing "x": invalid syntax',
        ),
        (
            ["--all=x"],
            'invalid argument "x" for "-a, --all" flag: strconv.ParseBool: parsing "x": invalid syntax',
        ),
    ],
)
def test_a_wrong_flag_is_explained_in_dockers_words(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        flags.parse(FLAGS, argv)
    assert caught.value.message == message
    assert caught.value.status == 125


@pytest.mark.parametrize(("typed", "meant"), [("--formt", "--format"), ("--inetractive", "--interactive")])
def test_the_nearest_flag_is_suggested(typed: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"Did you mean {meant}\\?"):
        flags.parse(FLAGS, [typed])


def test_help_is_asked_for_by_flag() -> None:
    with pytest.raises(flags.HelpRequested):
        flags.parse(FLAGS, ["--help"])
    with pytest.raises(flags.HelpRequested):
        flags.parse(FLAGS, ["-h"])
    assert flags.parse(RUN_FLAGS, ["-h", "name", "image"])[0].text("hostname") == "name"


@pytest.mark.parametrize("spelling", sorted(commands.SPELLINGS))
def test_every_command_loads_and_has_distinct_flags(spelling: str) -> None:
    command = commands.load(spelling)
    names = [flag.name for flag in command.flags]
    shorts = [flag.short for flag in command.flags if flag.short]
    assert len(names) == len(set(names))
    assert len(shorts) == len(set(shorts))
    assert all(flag.help and flag.help[-1] != "." for flag in command.flags)
