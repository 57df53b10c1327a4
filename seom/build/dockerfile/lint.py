"""Finds what is legal in a Dockerfile and still probably not meant (see checks.py for the rules)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from seom.build.dockerfile.arguments import argument_value, global_arguments
from seom.build.dockerfile.checks import Checks, Finding, Rule, parse_checks
from seom.build.dockerfile.dockerfile import Dockerfile, Stage
from seom.build.dockerfile.errors import DockerfileError, Location, suggestion
from seom.build.dockerfile.expansion import Scope
from seom.build.dockerfile.instructions import (
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    Run,
    Shell,
    Transfer,
    Workdir,
)
from seom.dockerignore import IgnoreRules
from seom.errors import InvalidParameter
from seom.oci.reference import parse_reference

CHECK_ARGUMENT = "BUILDKIT_DOCKERFILE_CHECK"
"""An argument of a build that goes before the check directive."""

_SIMILAR, _VERY_SIMILAR = 0.6, 0.8
_RESERVED_STAGES = {"context", "scratch"}
_PLATFORM_ARGUMENTS = tuple(
    f"{prefix}{suffix}"
    for prefix in ("BUILD", "TARGET")
    for suffix in ("PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT")
)
_SECRET = re.compile(r"(?i)(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)")
_NO_SECRET = re.compile(r"(?i)(?:_|^)(?:public|file|version)(?:_|$)")
_REMOTE = re.compile(r"(?:https?|git|ssh)://|git@", re.IGNORECASE)
_PORT_PROTOCOL = re.compile(r"[^/:]+/(\w+)")


@dataclass(frozen=True, slots=True)
class Context:
    """What lint may know besides the Dockerfile."""

    given: Mapping[str, str] = field(default_factory=dict)
    """Arguments of the build (--build-arg)."""
    ignore: IgnoreRules = field(default_factory=IgnoreRules)
    environments: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Names of the environment variables of base images, by their name in FROM.

    In a stage from an image that is not among them only variables that are global arguments, or
    resemble a known name, are taken for undefined.
    """


def lint(dockerfile: Dockerfile, context: Context | None = None) -> list[Finding]:
    """What the rules that the Dockerfile does not skip find, in the order of its lines."""
    context = context or Context()
    checks = chosen_checks(dockerfile, context.given)
    return [finding for finding in find_all(dockerfile, context) if checks.wants(finding.rule)]


def chosen_checks(dockerfile: Dockerfile, given: Mapping[str, str]) -> Checks:
    """What the check directive, or the build argument in its place, asks for; raises DockerfileError."""
    try:
        return parse_checks(given.get(CHECK_ARGUMENT, dockerfile.directives.check))
    except DockerfileError as error:
        raise error.at(Location(1, 1), dockerfile.text) from None


def find_all(dockerfile: Dockerfile, context: Context) -> list[Finding]:
    """What all rules find, in the order of the lines."""
    findings = [
        *_empty_continuations(dockerfile),
        *_keyword_casing(dockerfile),
        *_stage_names(dockerfile),
        *_bases(dockerfile),
        *_descriptions(dockerfile),
        *_contents(dockerfile, context),
    ]
    return sorted(findings, key=lambda finding: (finding.location.first, finding.rule.name))


def _empty_continuations(dockerfile: Dockerfile) -> Iterator[Finding]:
    for line in dockerfile.lines:
        if line.empty_continuations:
            first = line.empty_continuations[0]
            yield Finding(Rule.NoEmptyContinuation, "Empty continuation line", Location(first, first))


def _written_keyword(instruction: Instruction) -> str:
    return instruction.original.split(maxsplit=1)[0]


def _keyword_casing(dockerfile: Dockerfile) -> Iterator[Finding]:
    instructions = [
        instruction for stage in dockerfile.stages for instruction in (stage.start, *stage.instructions)
    ]
    keywords = [_written_keyword(instruction) for instruction in instructions]
    lower = sum(keyword.islower() for keyword in keywords) > sum(keyword.isupper() for keyword in keywords)
    for keyword, instruction in zip(keywords, instructions, strict=True):
        if keyword != (keyword.lower() if lower else keyword.upper()):
            yield Finding(
                Rule.ConsistentInstructionCasing,
                f"Command '{keyword}' should match the case of the command majority "
                f"({'lowercase' if lower else 'uppercase'})",
                instruction.location,
            )


def _stage_names(dockerfile: Dockerfile) -> Iterator[Finding]:
    seen: set[str] = set()
    for stage in dockerfile.stages:
        if not stage.name:
            continue
        location = stage.start.location
        keyword, *_, written_as, written_name = stage.start.original.split()
        if written_name != stage.name:
            message = f"Stage name '{written_name}' should be lowercase"
            yield Finding(Rule.StageNameCasing, message, location)
        if keyword.islower() != written_as.islower():
            message = f"'{written_as}' and '{keyword}' keywords' casing do not match"
            yield Finding(Rule.FromAsCasing, message, location)
        if stage.name in _RESERVED_STAGES:
            message = f'Stage name should not use the same name as reserved stage "{stage.name}"'
            yield Finding(Rule.ReservedStageName, message, location)
        if stage.name in seen:
            message = f'Duplicate stage name "{stage.name}", stage names should be unique'
            yield Finding(Rule.DuplicateStageName, message, location)
        seen.add(stage.name)


def _descriptions(dockerfile: Dockerfile) -> Iterator[Finding]:
    comments = {line.location.first: line.comments for line in dockerfile.lines}
    instructions = [
        *dockerfile.arguments,
        *(each for stage in dockerfile.stages for each in (stage.start, *stage.instructions)),
    ]
    for instruction in instructions:
        names = _defined_names(instruction)
        described = comments.get(instruction.location.first, ())
        if names and described and described[-1].split()[0] not in names:
            example = names[0] if len(names) == 1 else "<arg_key>"
            message = (
                f"Comment for {instruction.keyword} should follow the format: `# {example} <description>`"
            )
            yield Finding(Rule.InvalidDefinitionDescription, message, instruction.location)


def _defined_names(instruction: Instruction) -> list[str]:
    match instruction:
        case Arg():
            return [argument.name for argument in instruction.arguments]
        case From(name=name) if name:
            return [name]
    return []


def _bases(dockerfile: Dockerfile) -> Iterator[Finding]:
    predefined = dict.fromkeys(_PLATFORM_ARGUMENTS, "linux")
    declared = {argument.name for arg in dockerfile.arguments for argument in arg.arguments}
    try:
        values = global_arguments(dockerfile, {}, predefined)
    except DockerfileError:
        return  # the build itself reports it
    for stage in dockerfile.stages:
        scope = Scope(values, dockerfile.escape)
        try:
            start = stage.start.expanded(scope)
        except DockerfileError:
            continue
        for name in sorted(scope.undefined - declared):
            message = f"FROM argument '{name}' is not declared{suggestion(name, [*declared, *predefined])}"
            yield Finding(Rule.UndefinedArgInFrom, message, start.location)
        if "$" in stage.base and not _is_reference(start.base):
            message = f"Default value for ARG {stage.base} results in empty or invalid base image name"
            yield Finding(Rule.InvalidDefaultArgInFrom, message, start.location)
        yield from _base_platform(stage)


def _base_platform(stage: Stage) -> Iterator[Finding]:
    location = stage.start.location
    if stage.platform in {"$TARGETPLATFORM", "${TARGETPLATFORM}"}:
        message = (
            f"Setting platform to predefined {stage.platform} in FROM is redundant "
            "as this is the default behavior"
        )
        yield Finding(Rule.RedundantTargetPlatform, message, location)
    elif stage.platform and "$" not in stage.platform and not _named_for_platform(stage):
        message = f'FROM --platform flag should not use constant value "{stage.platform}"'
        yield Finding(Rule.FromPlatformFlagConstDisallowed, message, location)


def _named_for_platform(stage: Stage) -> bool:
    """A stage named for its platform is meant to be for no other."""
    return any(part in stage.name for part in stage.platform.lower().split("/"))


def _is_reference(text: str) -> bool:
    try:
        parse_reference(text)
    except InvalidParameter:
        return False
    return True


def _contents(dockerfile: Dockerfile, context: Context) -> Iterator[Finding]:
    """What is found in the instructions of all stages."""
    ends: list[_Knowledge] = []
    try:
        global_values = global_arguments(
            dockerfile, context.given, dict.fromkeys(_PLATFORM_ARGUMENTS, "linux")
        )
        for stage in dockerfile.stages:
            base = dockerfile.base_stage(stage, global_values)
            if base is not None:
                end = ends[base.index]
                knowledge = replace(end, environment=dict(end.environment))
            else:
                knowledge = _of_image(Scope(global_values, dockerfile.escape).word(stage.base), context)
            yield from _StageWalk(stage, dockerfile.escape, context, global_values, knowledge).findings()
            ends.append(knowledge)
    except DockerfileError:
        return  # a word of FROM or of a global ARG is malformed: the build itself reports it


def _of_image(base: str, context: Context) -> _Knowledge:
    names = context.environments.get(base, () if base == "scratch" else None)
    return _Knowledge(dict.fromkeys((*(names or ()), "PATH"), "value"), environment_known=names is not None)


@dataclass(slots=True)
class _Knowledge:
    """What a build knows at the end of a stage that a later one may begin from."""

    environment: dict[str, str] = field(default_factory=dict)
    environment_known: bool = True
    """False if a base image may have set variables besides those in environment."""
    absolute_workdir: bool = False
    own_shell: bool = False


class _StageWalk:
    """Goes through a stage, knowing what a build knows at each instruction."""

    def __init__(
        self,
        stage: Stage,
        escape: str,
        context: Context,
        global_values: Mapping[str, str],
        knowledge: _Knowledge,
    ) -> None:
        self.stage = stage
        self.escape = escape
        self.context = context
        self.globals = global_values
        self.knowledge = knowledge
        self.arguments: dict[str, str] = {}
        self.last: dict[type[Instruction], Instruction] = {}

    @property
    def variables(self) -> dict[str, str]:
        return {**self.arguments, **self.knowledge.environment}

    def findings(self) -> Iterator[Finding]:
        for instruction in self.stage.instructions:
            scope = Scope(self.variables, self.escape)
            try:
                expanded = instruction.expanded(scope)
                if isinstance(expanded, Run):
                    expanded.mounts(scope)
            except DockerfileError:
                continue  # the build itself reports it
            yield from self._undefined(scope, instruction.location)
            yield from self._form(instruction)
            yield from self._meaning(expanded)
            self._learn(expanded)

    def _undefined(self, scope: Scope, location: Location) -> Iterator[Finding]:
        certain = self.knowledge.environment_known
        similarity = _SIMILAR if certain else _VERY_SIMILAR
        for name in sorted(scope.undefined):
            known = [each for each in self.variables if certain or each != "PATH"]
            proposal = suggestion("$" + name, ["$" + each for each in known], similarity)
            if certain or name in self.globals or proposal:
                message = f"Usage of undefined variable '${name}'{proposal}"
                yield Finding(Rule.UndefinedVar, message, location)

    def _form(self, instruction: Instruction) -> Iterator[Finding]:
        """What is wrong with the way an instruction is written."""
        location = instruction.location
        match instruction:
            case Maintainer():
                message = "Maintainer instruction is deprecated in favor of using label"
                yield Finding(Rule.MaintainerDeprecated, message, location)
            case Env(legacy=True) | Label(legacy=True):
                message = (
                    f'"{instruction.keyword} key=value" should be used instead of legacy '
                    f'"{instruction.keyword} key value" format'
                )
                yield Finding(Rule.LegacyKeyValueFormat, message, location)
            case Cmd() | Entrypoint() if instruction.command.shell and not self.knowledge.own_shell:
                message = (
                    f"JSON arguments recommended for {instruction.keyword} to prevent unintended behavior "
                    "related to OS signals"
                )
                yield Finding(Rule.JSONArgsRecommended, message, location)

    def _meaning(self, instruction: Instruction) -> Iterator[Finding]:
        """What is wrong with the values of an instruction, and with where it stands."""
        match instruction:
            case Workdir(path=path) if not path.startswith("/") and not self.knowledge.absolute_workdir:
                message = f'Relative workdir "{path}" can have unexpected results if the base image changes'
                yield Finding(Rule.WorkdirRelativePath, message, instruction.location)
            case Env():
                yield from self._secrets(instruction, [pair.key for pair in instruction.variables])
            case Arg():
                yield from self._secrets(instruction, [each.name for each in instruction.arguments])
            case Expose():
                yield from _ports(instruction)
            case Copy(origin="") | Add():
                yield from self._ignored(instruction)
            case Cmd() | Entrypoint() | Healthcheck() if type(instruction) in self.last:
                message = (
                    f"Multiple {instruction.keyword} instructions should not be used in the same stage "
                    "because only the last one will be used"
                )
                # The one that has no effect is the one before.
                before = self.last[type(instruction)].location
                yield Finding(Rule.MultipleInstructionsDisallowed, message, before)

    def _secrets(self, instruction: Instruction, names: list[str]) -> Iterator[Finding]:
        for name in names:
            if _SECRET.search(name) and not _NO_SECRET.search(name):
                message = (
                    f'Do not use ARG or ENV instructions for sensitive data ({instruction.keyword} "{name}")'
                )
                yield Finding(Rule.SecretsUsedInArgOrEnv, message, instruction.location)

    def _ignored(self, transfer: Transfer) -> Iterator[Finding]:
        if any(pattern.exception for pattern in self.context.ignore.patterns):
            return  # a part of an ignored directory may be there after all
        for source in transfer.sources:
            if not _REMOTE.match(source) and self.context.ignore.ignores(source):
                message = (
                    f'Attempting to {transfer.keyword.capitalize()} file "{source}" '
                    "that is excluded by .dockerignore"
                )
                yield Finding(Rule.CopyIgnoredFile, message, transfer.location)

    def _learn(self, instruction: Instruction) -> None:
        self.last[type(instruction)] = instruction
        match instruction:
            case Env():
                self.knowledge.environment |= {pair.key: pair.value for pair in instruction.variables}
            case Arg():
                for argument in instruction.arguments:
                    value = argument_value(argument, self.context.given, self.globals)
                    self.arguments[argument.name] = value or ""
            case Shell():
                self.knowledge.own_shell = True
            case Workdir(path=path) if path.startswith("/"):
                self.knowledge.absolute_workdir = True


def _ports(expose: Expose) -> Iterator[Finding]:
    for port in expose.ports:
        protocol = _PORT_PROTOCOL.fullmatch(port)
        if ":" in port:
            message = (
                f"EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
            )
            yield Finding(Rule.ExposeInvalidFormat, message, expose.location)
        elif protocol and protocol[1] != protocol[1].lower():
            message = f"Defined protocol '{port}' in EXPOSE instruction should be lowercase"
            yield Finding(Rule.ExposeProtoCasing, message, expose.location)
