"""Instructions that change only the configuration: ENV, LABEL, CMD, USER, EXPOSE and their like."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable
from typing import Any

import msgspec

from seom.build.dockerfile.errors import DockerfileError
from seom.build.dockerfile.instructions import (
    Arg,
    Cmd,
    Command,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Shell,
    StopSignal,
    User,
    Volume,
)
from seom.build.state import Change, State
from seom.engine.signals import parse_signal
from seom.oci.image_config import ExecutionConfig
from seom.oci.image_config import Healthcheck as HealthcheckConfig

_PORT = re.compile(r"(\d+)(?:-(\d+))?(?:/([a-z]+))?")


def change_of(instruction: Instruction, state: State) -> Change | None:
    """What an (expanded) instruction changes; None when it is not of this kind.

    Raises DockerfileError and InvalidParameter.
    """
    handler = _HANDLERS.get(type(instruction))
    return handler(instruction, state) if handler else None


def command_words(command: Command, state: State) -> list[str]:
    """The argument vector of CMD, ENTRYPOINT and RUN."""
    return [*state.shell, *command.arguments] if command.shell else list(command.arguments)


def with_environment(config: ExecutionConfig, variables: list[tuple[str, str]]) -> ExecutionConfig:
    """Variables added, or changed in their place."""
    values = dict(entry.partition("=")[::2] for entry in config.env or [])
    values.update(variables)
    return _replace(config, env=[f"{name}={value}" for name, value in values.items()])


def _env(instruction: Env, state: State) -> Change:
    variables = [(pair.key, pair.value) for pair in instruction.variables]
    text = " ".join(f"{name}={value}" for name, value in variables)
    return Change(with_environment(state.config, variables), f"ENV {text}")


def _label(instruction: Label, state: State) -> Change:
    labels = {pair.key: pair.value for pair in instruction.labels}
    text = " ".join(f"{name}={value}" for name, value in labels.items())
    return Change(_replace(state.config, labels={**(state.config.labels or {}), **labels}), f"LABEL {text}")


def _arg(instruction: Arg, state: State) -> Change:
    words = [
        each.name if each.default is None else f"{each.name}={each.default}" for each in instruction.arguments
    ]
    return Change(state.config, f"ARG {' '.join(words)}")


def _cmd(instruction: Cmd, state: State) -> Change:
    words = command_words(instruction.command, state)
    config = _replace(state.config, cmd=words)
    return Change(config, f"CMD {msgspec.json.encode(words).decode()}", command_set=True)


def _entrypoint(instruction: Entrypoint, state: State) -> Change:
    words = command_words(instruction.command, state)
    config = _replace(state.config, entrypoint=words or None)
    if not state.command_set:
        config = _replace(config, cmd=None)
    return Change(config, f"ENTRYPOINT {msgspec.json.encode(words).decode()}")


def _maintainer(instruction: Maintainer, state: State) -> Change:
    return Change(state.config, f"MAINTAINER {instruction.name}", author=instruction.name)


def _expose(instruction: Expose, state: State) -> Change:
    ports: dict[str, object] = {**(state.config.exposed_ports or {})}
    for word in instruction.ports:
        for port in _ports(word):
            ports[port] = {}
    return Change(_replace(state.config, exposed_ports=ports), f"EXPOSE {' '.join(instruction.ports)}")


def _ports(word: str) -> list[str]:
    match = _PORT.fullmatch(word.lower())
    first, last, protocol = match.groups() if match else ("", "", "")
    if not match or protocol not in (None, "tcp", "udp", "sctp"):
        raise DockerfileError(f"invalid containerPort: {word}", hint="write 80, 80/udp or 8000-8010/tcp")
    numbers = range(int(first), int(last or first) + 1)
    if not numbers or numbers[-1] > 65535:
        raise DockerfileError(f"invalid containerPort: {word}", hint="ports go from 0 to 65535")
    return [f"{number}/{protocol or 'tcp'}" for number in numbers]


def _volume(instruction: Volume, state: State) -> Change:
    volumes: dict[str, object] = {**(state.config.volumes or {}), **{path: {} for path in instruction.paths}}
    return Change(_replace(state.config, volumes=volumes), f"VOLUME [{' '.join(instruction.paths)}]")


def _user(instruction: User, state: State) -> Change:
    return Change(_replace(state.config, user=instruction.user), f"USER {instruction.user}")


def _shell(instruction: Shell, state: State) -> Change:
    words = list(instruction.arguments)
    return Change(_replace(state.config, shell=words), f"SHELL [{' '.join(words)}]")


def _stop_signal(instruction: StopSignal, state: State) -> Change:
    parse_signal(instruction.signal)
    return Change(_replace(state.config, stop_signal=instruction.signal), f"STOPSIGNAL {instruction.signal}")


def _healthcheck(instruction: Healthcheck, state: State) -> Change:
    check = HealthcheckConfig(
        test=list(instruction.test),
        interval=instruction.interval_ns,
        timeout=instruction.timeout_ns,
        retries=instruction.retries,
        start_period=instruction.start_period_ns,
        start_interval=instruction.start_interval_ns,
    )
    shown = msgspec.json.encode(check).decode()
    return Change(_replace(state.config, healthcheck=check), f"HEALTHCHECK {shown}")


def _onbuild(instruction: Onbuild, state: State) -> Change:
    triggers = [*(state.config.on_build or []), instruction.expression]
    return Change(_replace(state.config, on_build=triggers), f"ONBUILD {instruction.expression}")


def working_directory(state: State, path: str) -> str:
    """A path of WORKDIR, COPY or ADD: relative ones count from the working directory."""
    return posixpath.normpath(posixpath.join("/", state.config.working_dir, path))


def run_text(words: list[str], shell_form: bool) -> str:
    """A command as Docker's messages show it."""
    return " ".join(words) if shell_form else shlex.join(words)


def _replace(config: ExecutionConfig, **changes: Any) -> ExecutionConfig:
    return msgspec.structs.replace(config, **changes)


_HANDLERS: dict[type[Instruction], Callable[[Any, State], Change]] = {
    Arg: _arg,
    Cmd: _cmd,
    Entrypoint: _entrypoint,
    Env: _env,
    Expose: _expose,
    Healthcheck: _healthcheck,
    Label: _label,
    Maintainer: _maintainer,
    Onbuild: _onbuild,
    Shell: _shell,
    StopSignal: _stop_signal,
    User: _user,
    Volume: _volume,
}
