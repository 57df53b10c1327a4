"""The flags of an instruction: --name=value, and --name for those that are on or off."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from seom.build.dockerfile.errors import DockerfileError, suggestion


class FlagType(Enum):
    STRING = auto()
    STRINGS = auto()
    """May be given several times."""
    BOOLEAN = auto()


@dataclass(frozen=True, slots=True)
class Flags:
    """The values of the flags that were given."""

    values: dict[str, list[str]] = field(default_factory=dict)

    def text(self, name: str, default: str = "") -> str:
        return self.values.get(name, [default])[-1]

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(self.values.get(name, ()))

    def boolean(self, name: str) -> bool:
        return self.optional_boolean(name) or False

    def optional_boolean(self, name: str) -> bool | None:
        """None for a flag that was not given."""
        return self.text(name) == "true" if name in self.values else None


def parse_flags(words: list[str], known: dict[str, FlagType]) -> Flags:
    """Check words against the flags an instruction knows; raises DockerfileError."""
    values: dict[str, list[str]] = {}
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        kind = known.get(name)
        if kind is None:
            raise DockerfileError(f"unknown flag: --{name}{_suggested(name, known)}")
        if name in values and kind is not FlagType.STRINGS:
            raise DockerfileError(f"duplicate flag specified: {name}")
        if kind is FlagType.BOOLEAN:
            value = value.lower() if equals else "true"
            if value not in {"true", "false"}:
                raise DockerfileError(f"expecting boolean value for flag {name}, not: {value}")
        elif not equals:
            raise DockerfileError(f"missing a value on flag: {name}", hint=f"write --{name}=VALUE")
        values.setdefault(name, []).append(value)
    return Flags(values)


def _suggested(name: str, known: dict[str, FlagType]) -> str:
    return suggestion("--" + name, ["--" + flag for flag in known])
