"""The --change option of commit and import: Dockerfile instructions that change a configuration.

See the Dockerfile reference; error texts are Docker's.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable

import msgspec

from seom.errors import InvalidParameter
from seom.oci.image_config import ExecutionConfig, Healthcheck

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_DEFAULT_SHELL = ["/bin/sh", "-c"]


def apply_changes(config: ExecutionConfig, changes: Iterable[str]) -> ExecutionConfig:
    """A configuration with the instructions applied in order; raises InvalidParameter."""
    config = msgspec.convert(msgspec.to_builtins(config), ExecutionConfig)
    for text in changes:
        for line in re.sub(r"\\\r?\n", "", text).splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                _apply(config, line.strip())
    return config


def _apply(config: ExecutionConfig, line: str) -> None:
    name, _, rest = line.partition(" ")
    instruction = _INSTRUCTIONS.get(name.upper())
    if instruction is None:
        raise InvalidParameter(f"{name} is not a valid change command")
    if not rest.strip() and name.upper() not in {"CMD", "ENTRYPOINT"}:
        raise InvalidParameter(f"{name.upper()} requires at least one argument")
    instruction(config, rest.strip())


def _json_list(text: str) -> list[str] | None:
    try:
        return msgspec.json.decode(text, type=list[str]) if text.startswith("[") else None
    except msgspec.DecodeError:
        return None


def _command(config: ExecutionConfig, text: str) -> list[str]:
    words = _json_list(text)
    return words if words is not None else [*(config.shell or _DEFAULT_SHELL), text] if text else []


def _cmd(config: ExecutionConfig, text: str) -> None:
    config.cmd = _command(config, text)


def _entrypoint(config: ExecutionConfig, text: str) -> None:
    config.entrypoint = _command(config, text)


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InvalidParameter(f"cannot read {text!r}: {error}") from error


def _pairs(instruction: str, text: str) -> dict[str, str]:
    """NAME=VALUE ..., or the old form NAME VALUE."""
    if "=" not in text.split(None, 1)[0]:
        name, _, value = text.partition(" ")
        if not value:
            raise InvalidParameter(f"{instruction} must have two arguments")
        return {name: value.strip()}
    pairs = {}
    for word in _split(text):
        name, equals, value = word.partition("=")
        if not equals:
            raise InvalidParameter(
                f"Syntax error - can't find = in {word!r}. Must be of the form: name=value"
            )
        if not name:
            raise InvalidParameter(f"{instruction} names can not be blank")
        pairs[name] = value
    return pairs


def _env(config: ExecutionConfig, text: str) -> None:
    variables = {entry.partition("=")[0]: entry for entry in config.env or []}
    variables |= {name: f"{name}={value}" for name, value in _pairs("ENV", text).items()}
    config.env = list(variables.values())


def _label(config: ExecutionConfig, text: str) -> None:
    config.labels = {**(config.labels or {}), **_pairs("LABEL", text)}


def _expose(config: ExecutionConfig, text: str) -> None:
    ports = dict(config.exposed_ports or {})
    for word in text.split():
        match = _PORT.fullmatch(word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not match or first > last or last > 65535:
            raise InvalidParameter(f"invalid containerPort: {word}")
        protocol = (match[3] or "tcp").lower()
        ports |= {f"{port}/{protocol}": {} for port in range(first, last + 1)}
    config.exposed_ports = ports


def _volume(config: ExecutionConfig, text: str) -> None:
    volumes = _json_list(text)
    config.volumes = {
        **(config.volumes or {}),
        **{path: {} for path in (text.split() if volumes is None else volumes)},
    }


def _user(config: ExecutionConfig, text: str) -> None:
    config.user = text


def _workdir(config: ExecutionConfig, text: str) -> None:
    config.working_dir = text if text.startswith("/") else f"{config.working_dir.rstrip('/')}/{text}"


def _stop_signal(config: ExecutionConfig, text: str) -> None:
    config.stop_signal = text


def _on_build(config: ExecutionConfig, text: str) -> None:
    trigger = text.split(None, 1)[0].upper()
    if trigger == "ONBUILD":
        raise InvalidParameter("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in {"FROM", "MAINTAINER"}:
        raise InvalidParameter(f"{trigger} isn't allowed as an ONBUILD trigger")
    config.on_build = [*(config.on_build or []), text]


def _healthcheck(config: ExecutionConfig, text: str) -> None:
    check = Healthcheck()
    while match := re.match(r"--([a-z-]+)=(\S+)\s+", text):
        text = text[match.end() :]
        if match[1] == "retries" and match[2].isdigit():
            check.retries = int(match[2])
        elif match[1] in {"interval", "timeout", "start-period", "start-interval"}:
            setattr(check, match[1].replace("-", "_"), _duration(match[2]))
        else:
            raise InvalidParameter(f"Unknown flag: {match[1]}")
    kind, _, rest = text.partition(" ")
    if kind.upper() == "NONE":
        check.test = ["NONE"]
    elif kind.upper() == "CMD" and rest.strip():
        words = _json_list(rest.strip())
        check.test = ["CMD", *words] if words is not None else ["CMD-SHELL", rest.strip()]
    else:
        raise InvalidParameter(f'Unknown type "{kind}" in HEALTHCHECK (try CMD)')
    config.healthcheck = check


def _duration(text: str) -> int:
    """Nanoseconds of Go's 1h2m3.5s; raises InvalidParameter."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise InvalidParameter(f'time: invalid duration "{text}"')
    return sum(int(float(number) * _UNITS_NS[unit]) for number, unit in parts)


_INSTRUCTIONS: dict[str, Callable[[ExecutionConfig, str], None]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _on_build,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
