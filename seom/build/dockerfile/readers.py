"""One logical line -> one instruction: what is allowed behind each keyword."""

from __future__ import annotations

import re
from collections.abc import Callable

from seom.build.dockerfile.durations import parse_duration
from seom.build.dockerfile.errors import DockerfileError, Location, suggestion
from seom.build.dockerfile.flags import Flags, FlagType, parse_flags
from seom.build.dockerfile.instructions import (
    Add,
    Arg,
    Argument,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Instruction,
    KeyValue,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from seom.build.dockerfile.lines import Heredoc, LogicalLine, parse_heredoc
from seom.build.dockerfile.mounts import mount_origin, parse_mount
from seom.build.dockerfile.words import parse_json_strings, split_blanks, split_flags, split_words

_STAGE_NAME = re.compile(r"[a-z][a-z0-9-_.]*")
_MINIMUM_INTERVAL_NS = 1_000_000
_NETWORKS = ("default", "none", "host")
_SECURITIES = ("sandbox", "insecure")

_STRING, _STRINGS, _BOOLEAN = FlagType.STRING, FlagType.STRINGS, FlagType.BOOLEAN
_TRANSFER_FLAGS = {"chown": _STRING, "chmod": _STRING, "link": _BOOLEAN, "exclude": _STRINGS}
_FLAGS: dict[str, dict[str, FlagType]] = {
    "FROM": {"platform": _STRING},
    "RUN": {"mount": _STRINGS, "network": _STRING, "security": _STRING, "device": _STRINGS},
    "COPY": {**_TRANSFER_FLAGS, "from": _STRING, "parents": _BOOLEAN},
    "ADD": {**_TRANSFER_FLAGS, "checksum": _STRING, "keep-git-dir": _BOOLEAN, "unpack": _BOOLEAN},
    "HEALTHCHECK": dict.fromkeys(
        ("interval", "timeout", "start-period", "start-interval", "retries"), _STRING
    ),
}


class Statement:
    """One logical line, taken apart as far as all instructions have the same form."""

    def __init__(self, line: LogicalLine, escape: str) -> None:
        keyword, _, rest = re.sub(r"\s+", " ", line.text, count=1).partition(" ")
        self.line = line
        self.escape = escape
        self.written_keyword = keyword
        self.keyword = keyword.upper()
        self.flag_words, self.rest = split_flags(rest, escape)

    @property
    def location(self) -> Location:
        return self.line.location

    @property
    def heredocs(self) -> tuple[Heredoc, ...]:
        return self.line.heredocs

    def flags(self) -> Flags:
        return parse_flags(self.flag_words, _FLAGS.get(self.keyword, {}))

    def list_or_words(self) -> tuple[str, ...]:
        """A JSON list, or the words between white space; quotes do not keep words together."""
        listed = parse_json_strings(self.rest)
        return split_blanks(self.rest) if listed is None else listed

    def command(self) -> Command:
        listed = parse_json_strings(self.rest)
        if listed is not None:
            return Command(listed, shell=False)
        return Command((self.rest,) if self.rest else (), shell=True)

    def one_argument(self) -> str:
        if not self.rest:
            raise DockerfileError(f"{self.keyword} requires exactly one argument")
        return self.rest


def read_instruction(statement: Statement) -> Instruction:
    """Raises DockerfileError, without the place of the line."""
    reader = _READERS.get(statement.keyword)
    if reader is None:
        raise DockerfileError(
            f"unknown instruction: {statement.written_keyword}{suggestion(statement.keyword, _READERS)}",
            hint=_unknown_hint(statement.line.text),
        )
    return reader(statement)


def _unknown_hint(text: str) -> str:
    if not text[0].isalpha():
        return "does the line before lack a continuation character at its end?"
    return ""


def _from(statement: Statement) -> From:
    words = split_blanks(statement.rest)
    name = ""
    if len(words) == 3 and words[1].upper() == "AS":
        name = words[2].lower()
        if not _STAGE_NAME.fullmatch(name):
            raise DockerfileError(
                f'invalid name for build stage: "{words[2]}", '
                "name can't start with a number or contain symbols"
            )
    elif len(words) != 1:
        raise DockerfileError(
            "FROM requires either one or three arguments",
            hint="a comment needs a line of its own"
            if any(word.startswith("#") for word in words)
            else "write FROM IMAGE, or FROM IMAGE AS NAME",
        )
    platform = statement.flags().text("platform")
    return From(
        location=statement.location,
        original=statement.line.text,
        base=words[0],
        name=name,
        platform=platform,
    )


def _arg(statement: Statement) -> Arg:
    statement.flags()
    words = split_words(statement.rest, statement.escape)
    if not words:
        raise DockerfileError("ARG requires at least one argument")
    arguments = []
    for word in words:
        name, equals, default = word.partition("=")
        if not name:
            raise DockerfileError("ARG names can not be blank")
        arguments.append(Argument(name, default if equals else None))
    return Arg(location=statement.location, original=statement.line.text, arguments=tuple(arguments))


def _pairs(statement: Statement) -> tuple[tuple[KeyValue, ...], bool]:
    """The assignments of ENV or LABEL, and whether they are one in the old form, name and value."""
    keyword = statement.keyword
    statement.flags()
    words = split_words(statement.rest, statement.escape)
    if not words:
        raise DockerfileError(f"{keyword} requires at least one argument")
    if "=" not in words[0]:
        name, *value = statement.rest.split(maxsplit=1)
        if not value:
            raise DockerfileError(f"{keyword} must have two arguments", hint=f"{keyword} NAME=VALUE")
        return (KeyValue(name, value[0]),), True
    pairs = []
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise DockerfileError(
                f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value',
                hint="a value with spaces needs quotes",
            )
        if not name:
            raise DockerfileError(f"{keyword} names can not be blank")
        pairs.append(KeyValue(name, text))
    return tuple(pairs), False


def _env(statement: Statement) -> Env:
    pairs, legacy = _pairs(statement)
    return Env(location=statement.location, original=statement.line.text, variables=pairs, legacy=legacy)


def _label(statement: Statement) -> Label:
    pairs, legacy = _pairs(statement)
    return Label(location=statement.location, original=statement.line.text, labels=pairs, legacy=legacy)


def _run(statement: Statement) -> Run:
    flags = statement.flags()
    command = statement.command()
    if not command.arguments:
        raise DockerfileError("RUN requires at least one argument")
    if statement.heredocs and not command.shell:
        raise DockerfileError("RUN cannot combine a JSON list with a heredoc")
    for flag in flags.texts("mount"):
        mount_origin(flag)
        if "$" not in flag:
            parse_mount(flag, lambda value: value)
    return Run(
        location=statement.location,
        original=statement.line.text,
        command=command,
        heredocs=statement.heredocs,
        mount_flags=flags.texts("mount"),
        network=_one_of(flags, "network", _NETWORKS),
        security=_one_of(flags, "security", _SECURITIES),
        devices=flags.texts("device"),
    )


def _one_of(flags: Flags, name: str, allowed: tuple[str, ...]) -> str:
    value = flags.text(name, allowed[0])
    if value not in allowed:
        raise DockerfileError(f'{name} mode "{value}" is not valid{suggestion(value, allowed)}')
    return value


def _cmd(statement: Statement) -> Cmd:
    statement.flags()
    return Cmd(location=statement.location, original=statement.line.text, command=statement.command())


def _entrypoint(statement: Statement) -> Entrypoint:
    statement.flags()
    return Entrypoint(location=statement.location, original=statement.line.text, command=statement.command())


def _sources_and_destination(statement: Statement) -> tuple[tuple[str, ...], str, tuple[Heredoc, ...]]:
    words = statement.list_or_words()
    if len(words) < 2:
        raise DockerfileError(
            f"{statement.keyword} requires at least two arguments, but only one was provided. "
            "Destination could not be determined"
        )
    *sources, destination = words
    if parse_heredoc(destination) is not None:
        raise DockerfileError(f"{statement.keyword} cannot accept a heredoc as a destination")
    return tuple(word for word in sources if parse_heredoc(word) is None), destination, statement.heredocs


def _copy(statement: Statement) -> Copy:
    sources, destination, documents = _sources_and_destination(statement)
    flags = statement.flags()
    origin = flags.text("from")
    if "$" in origin:
        raise DockerfileError(
            "variable expansion is not supported for --from, "
            "define a new stage with FROM using ARG from global scope as a workaround"
        )
    return Copy(
        location=statement.location,
        original=statement.line.text,
        sources=sources,
        destination=destination,
        documents=documents,
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=flags.boolean("link"),
        exclude=flags.texts("exclude"),
        origin=origin,
        parents=flags.boolean("parents"),
    )


def _add(statement: Statement) -> Add:
    sources, destination, documents = _sources_and_destination(statement)
    flags = statement.flags()
    return Add(
        location=statement.location,
        original=statement.line.text,
        sources=sources,
        destination=destination,
        documents=documents,
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=flags.boolean("link"),
        exclude=flags.texts("exclude"),
        checksum=flags.text("checksum"),
        keep_git_dir=flags.optional_boolean("keep-git-dir"),
        unpack=flags.optional_boolean("unpack"),
    )


def _maintainer(statement: Statement) -> Maintainer:
    name = statement.one_argument()
    statement.flags()
    return Maintainer(location=statement.location, original=statement.line.text, name=name)


def _expose(statement: Statement) -> Expose:
    statement.flags()
    ports = tuple(sorted(split_blanks(statement.rest)))
    if not ports:
        raise DockerfileError("EXPOSE requires at least one argument")
    return Expose(location=statement.location, original=statement.line.text, ports=ports)


def _volume(statement: Statement) -> Volume:
    statement.flags()
    paths = tuple(path.strip() for path in statement.list_or_words())
    if not paths:
        raise DockerfileError("VOLUME requires at least one argument")
    if "" in paths:
        raise DockerfileError("VOLUME specified can not be an empty string")
    return Volume(location=statement.location, original=statement.line.text, paths=paths)


def _user(statement: Statement) -> User:
    user = statement.one_argument()
    statement.flags()
    return User(location=statement.location, original=statement.line.text, user=user)


def _workdir(statement: Statement) -> Workdir:
    path = statement.one_argument()
    statement.flags()
    return Workdir(location=statement.location, original=statement.line.text, path=path)


def _shell(statement: Statement) -> Shell:
    statement.flags()
    command = statement.command()
    if not command.arguments:
        raise DockerfileError("SHELL requires at least one argument")
    if command.shell:
        raise DockerfileError(
            "SHELL requires the arguments to be in JSON form", hint='for instance SHELL ["/bin/bash", "-c"]'
        )
    return Shell(location=statement.location, original=statement.line.text, arguments=command.arguments)


def _stop_signal(statement: Statement) -> StopSignal:
    signal = statement.one_argument()
    statement.flags()
    return StopSignal(location=statement.location, original=statement.line.text, signal=signal)


def _healthcheck(statement: Statement) -> Healthcheck:
    kind, *rest = statement.rest.split(maxsplit=1) or [""]
    flags = statement.flags()
    match kind.upper():
        case "":
            raise DockerfileError("HEALTHCHECK requires at least one argument")
        case "NONE":
            if rest:
                raise DockerfileError("HEALTHCHECK NONE takes no arguments")
            test: tuple[str, ...] = ("NONE",)
        case "CMD":
            test = _health_test(rest[0] if rest else "")
        case other:
            raise DockerfileError(f'Unknown type "{other}" in HEALTHCHECK (try CMD)')
    return Healthcheck(
        location=statement.location,
        original=statement.line.text,
        test=test,
        interval_ns=_interval_ns(flags, "interval"),
        timeout_ns=_interval_ns(flags, "timeout"),
        start_period_ns=_interval_ns(flags, "start-period"),
        start_interval_ns=_interval_ns(flags, "start-interval"),
        retries=_retries(flags.text("retries", "0")),
    )


def _health_test(command: str) -> tuple[str, ...]:
    listed = parse_json_strings(command)
    if not command or listed == ():
        raise DockerfileError("Missing command after HEALTHCHECK CMD")
    return ("CMD-SHELL", command) if listed is None else ("CMD", *listed)


def _interval_ns(flags: Flags, name: str) -> int:
    duration_ns = parse_duration(flags.text(name, "0"))
    if duration_ns and duration_ns < _MINIMUM_INTERVAL_NS:
        raise DockerfileError(f'Interval "{name}" cannot be less than 1ms')
    return duration_ns


def _retries(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", text):
        raise DockerfileError(f'invalid number of retries: "{text}"')
    if int(text) < 0:
        raise DockerfileError(f"--retries cannot be negative ({text})")
    return int(text)


def _onbuild(statement: Statement) -> Onbuild:
    statement.flags()
    if not statement.rest:
        raise DockerfileError("ONBUILD requires at least one argument")
    keyword = statement.rest.split(maxsplit=1)[0].upper()
    if keyword == "ONBUILD":
        raise DockerfileError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if keyword in {"FROM", "MAINTAINER"}:
        raise DockerfileError(f"{keyword} isn't allowed as an ONBUILD trigger")
    line = LogicalLine(statement.rest, statement.location, statement.heredocs)
    return Onbuild(
        location=statement.location,
        original=statement.line.text,
        expression=line.source,
        trigger=read_instruction(Statement(line, statement.escape)),
    )


_READERS: dict[str, Callable[[Statement], Instruction]] = {
    "FROM": _from,
    "ARG": _arg,
    "ENV": _env,
    "RUN": _run,
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "COPY": _copy,
    "ADD": _add,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "EXPOSE": _expose,
    "VOLUME": _volume,
    "USER": _user,
    "WORKDIR": _workdir,
    "SHELL": _shell,
    "STOPSIGNAL": _stop_signal,
    "HEALTHCHECK": _healthcheck,
    "ONBUILD": _onbuild,
}
