"""What lint can find, and the "# check=" directive that chooses from it.

Names, descriptions and messages are those of `docker build --check`: people search for them, and
directives name them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from seom.build.dockerfile.errors import DockerfileError, Location, excerpt, suggestion

_DOCUMENTATION = "https://docs.docker.com/go/dockerfile/rule/"


class Rule(Enum):
    """A rule and what it demands."""

    StageNameCasing = "Stage names should be lowercase"
    FromAsCasing = "The 'as' keyword should match the case of the 'from' keyword"
    NoEmptyContinuation = "Empty continuation lines will become errors in a future release"
    ConsistentInstructionCasing = (
        "All commands within the Dockerfile should use the same casing (either upper or lower)"
    )
    DuplicateStageName = "Stage names should be unique"
    ReservedStageName = "Reserved words should not be used as stage names"
    JSONArgsRecommended = (
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals"
    )
    MaintainerDeprecated = (
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author"
    )
    UndefinedArgInFrom = "FROM command must use declared ARGs"
    WorkdirRelativePath = (
        "Relative workdir without an absolute workdir declared within the build "
        "can have unexpected results if the base image changes"
    )
    UndefinedVar = "Variables should be defined before their use"
    MultipleInstructionsDisallowed = (
        "Multiple instructions of the same type should not be used in the same stage"
    )
    LegacyKeyValueFormat = "Legacy key/value format with whitespace separator should not be used"
    InvalidBaseImagePlatform = "Base image platform does not match expected target platform"
    RedundantTargetPlatform = (
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior"
    )
    SecretsUsedInArgOrEnv = "Sensitive data should not be used in the ARG or ENV commands"
    InvalidDefaultArgInFrom = "Default value for global ARG results in an empty or invalid base image name"
    FromPlatformFlagConstDisallowed = "FROM --platform flag should not use a constant value"
    CopyIgnoredFile = "Attempting to Copy file that is excluded by .dockerignore"
    ExposeProtoCasing = "Protocol in EXPOSE instruction should be lowercase"
    ExposeInvalidFormat = "IP address and host-port mapping should not be used in EXPOSE instruction"
    InvalidDefinitionDescription = (
        "Comment for build stage or argument should follow the format: "
        "`# <arg/stage name> <description>`. If this is not intended to be a description comment, "
        "add an empty line or comment between the instruction and the comment."
    )

    @property
    def description(self) -> str:
        return self.value

    @property
    def url(self) -> str:
        """Where Docker explains the rule."""
        words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=JSON)", "-", self.name).lower()
        return f"{_DOCUMENTATION}{words}/"


EXPERIMENTAL = {Rule.InvalidDefinitionDescription}
"""Rules that only count when they are asked for."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A violation of a rule: what is wrong, and where."""

    rule: Rule
    message: str
    location: Location

    def __str__(self) -> str:
        return f"{self.rule.name}: {self.message} (line {self.location.first})"

    def render(self, source: str, name: str = "Dockerfile") -> str:
        """The finding with an excerpt of the Dockerfile, as `docker build --check` shows it."""
        return (
            f"WARNING: {self.rule.name} - {self.rule.url}\n{self.message}\n"
            f"{name}:{self.location.first}\n{excerpt(source, self.location)}"
        )


@dataclass(frozen=True, slots=True)
class Checks:
    """The choice that "# check=skip=A,B;error=true;experimental=all" makes."""

    skipped: frozenset[Rule] = frozenset()
    experimental: frozenset[Rule] = frozenset()
    error: bool = False
    """Findings make the build fail."""

    def wants(self, rule: Rule) -> bool:
        return rule not in self.skipped and (rule not in EXPERIMENTAL or rule in self.experimental)


def parse_checks(text: str) -> Checks:
    """Read the value of the check directive, or of the build argument BUILDKIT_DOCKERFILE_CHECK.

    Raises DockerfileError. Names of rules that are not known here are passed over: Docker adds some
    with every release.
    """
    options: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        key, equals, value = part.partition("=")
        if not equals:
            raise DockerfileError(f'invalid check option "{part}"', hint="write skip=NAME, or error=true")
        if key.strip().lower() not in {"skip", "error", "experimental"}:
            proposal = suggestion(key, ["skip", "error", "experimental"])
            raise DockerfileError(f'invalid check option "{key}"{proposal}')
        options[key.strip().lower()] = value.strip()
    error = options.get("error", "false").lower()
    if error not in {"true", "false", "1", "0", "t", "f"}:
        raise DockerfileError(f'failed to parse check option "error={error}": it is true or false')
    return Checks(
        skipped=_rules(options.get("skip", "")),
        experimental=_rules(options.get("experimental", "")),
        error=error in {"true", "1", "t"},
    )


def _rules(text: str) -> frozenset[Rule]:
    if text.lower() == "all":
        return frozenset(Rule)
    names = {name.strip().lower() for name in text.split(",")}
    return frozenset(rule for rule in Rule if rule.name.lower() in names)
