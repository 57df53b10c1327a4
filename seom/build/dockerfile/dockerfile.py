"""A whole Dockerfile: its stages, and how they depend on one another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from seom.build.dockerfile.errors import DockerfileError, Location, suggestion
from seom.build.dockerfile.expansion import Scope
from seom.build.dockerfile.instructions import Arg, Copy, From, Instruction, Onbuild, Run
from seom.build.dockerfile.lines import Directives, LogicalLine
from seom.build.dockerfile.mounts import mount_origin


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """What stands between one FROM and the next. base and platform may hold global arguments."""

    base: str
    name: str
    """In lower case; empty for a stage without a name."""
    platform: str
    instructions: tuple[Instruction, ...]
    index: int
    location: Location
    start: From = field(repr=False)

    @property
    def origins(self) -> Iterator[tuple[str, Location]]:
        """What the instructions take files from (--from, --mount from=): stages, contexts, images."""
        for instruction in self.instructions:
            yield from ((origin, instruction.location) for origin in _origins(instruction))

    @property
    def trigger_origins(self) -> Iterator[tuple[str, Location]]:
        """What its ONBUILD triggers take files from, in a stage that begins from this one."""
        for instruction in self.instructions:
            if isinstance(instruction, Onbuild):
                yield from ((origin, instruction.location) for origin in _origins(instruction.trigger))


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A parsed Dockerfile. text is all of it, for messages that show an excerpt."""

    text: str = field(repr=False)
    directives: Directives
    arguments: tuple[Arg, ...]
    """Those before the first FROM: global, visible to FROM."""
    stages: tuple[Stage, ...]
    lines: tuple[LogicalLine, ...] = field(repr=False)

    @property
    def escape(self) -> str:
        return self.directives.escape

    def target(self, name: str = "") -> Stage:
        """The stage with a name or an index, the last one without; raises DockerfileError."""
        if not self.stages:
            raise DockerfileError(
                "no build stage in current context", location=Location(1, 1), source=self.text
            )
        if not name:
            return self.stages[-1]
        stage = self.stage_before(name, len(self.stages))
        if stage is None:
            names = [stage.name for stage in self.stages if stage.name]
            raise DockerfileError(f'target stage "{name}" could not be found{suggestion(name, names)}')
        return stage

    def stage_before(self, name: str, index: int) -> Stage | None:
        """The stage that a name or number means among those before an index; None if it means none.

        Of several stages with one name it is the nearest.
        """
        earlier = self.stages[:index]
        if _is_number(name):
            return earlier[int(name)] if int(name) < len(earlier) else None
        return next((stage for stage in reversed(earlier) if name and stage.name == name.lower()), None)

    def base_stage(self, stage: Stage, variables: Mapping[str, str]) -> Stage | None:
        """The stage that another begins from; None if its base is an image. variables are global."""
        base = self.base_name(stage, variables)
        return None if _is_number(base) else self.stage_before(base, stage.index)

    def base_name(self, stage: Stage, variables: Mapping[str, str]) -> str:
        """What a stage begins from, with the global arguments replaced; raises DockerfileError."""
        try:
            return Scope(variables, self.escape).word(stage.base)
        except DockerfileError as error:
            raise error.at(stage.start.location, self.text) from None

    def origin_stage(self, origin: str, index: int) -> Stage | None:
        """The stage that --from or from= means in the stage with an index; None for an image or context.

        Unlike a base it may be a later one. Raises DockerfileError for a number that is no stage's.
        """
        if _is_number(origin):
            if int(origin) >= len(self.stages):
                raise DockerfileError(f"invalid stage index {origin}")
            return self.stages[int(origin)]
        return self.stage_before(origin, index) or self.stage_before(origin, len(self.stages))

    def dependencies(self, stage: Stage, variables: Mapping[str, str]) -> dict[Stage, Location]:
        """The stages that one needs itself, in their order, and where it says so; raises DockerfileError."""
        found: dict[int, Location] = {}
        origins = list(stage.origins)
        if not self.base_name(stage, variables):
            raise DockerfileError(
                f"base name ({stage.base}) should not be blank",
                location=stage.start.location,
                source=self.text,
                hint="give the argument a default where it is declared, or a value with --build-arg",
            )
        base = self.base_stage(stage, variables)
        if base is not None:
            found[base.index] = stage.start.location
            origins += base.trigger_origins
        for origin, location in origins:
            try:
                needed = self.origin_stage(origin, stage.index)
            except DockerfileError as error:
                raise error.at(location, self.text) from None
            if needed is not None:
                found.setdefault(needed.index, location)
        return {self.stages[index]: found[index] for index in sorted(found)}

    def stages_needed(
        self, target: str = "", variables: Mapping[str, str] | None = None
    ) -> tuple[Stage, ...]:
        """The stages to be built for a target, each behind those it needs, the target last.

        variables are the values of the global arguments (see arguments.global_arguments).
        Raises DockerfileError, also for stages that need each other.
        """
        goal = self.target(target)
        finished: dict[int, Stage] = {}
        path = {goal.index: iter(self.dependencies(goal, variables or {}).items())}
        while path:
            index, rest = next(reversed(path.items()))
            following = next((entry for entry in rest if entry[0].index not in finished), None)
            if following is None:
                finished[index] = self.stages[index]
                del path[index]
                continue
            stage, location = following
            if stage.index in path:
                name = stage.name or stage.index
                message = f"circular dependency detected on stage: {name}"
                raise DockerfileError(message, location=location, source=self.text)
            path[stage.index] = iter(self.dependencies(stage, variables or {}).items())
        return tuple(finished.values())


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit() and len(name) < 10


def _origins(instruction: Instruction) -> Iterator[str]:
    if isinstance(instruction, Copy) and instruction.origin:
        yield instruction.origin
    elif isinstance(instruction, Run):
        yield from filter(None, map(mount_origin, instruction.mount_flags))
