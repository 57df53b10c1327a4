"""A whole Dockerfile: its stages, and how they depend on one another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from seom.build.dockerfile.errors import DockerfileError, Location, suggestion
from seom.build.dockerfile.expansion import Scope
from seom.build.dockerfile.instructions import Arg, Copy, From, Instruction, Run
from seom.build.dockerfile.lines import Directives, LogicalLine
from seom.build.dockerfile.mounts import mount_origin


@dataclass(frozen=True, slots=True)
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
        """The stage that a name or number means in the stage with an index; None if it means no stage.

        Of several stages with one name it is the nearest.
        """
        earlier = self.stages[:index]
        if name.isascii() and name.isdigit():
            return earlier[int(name)] if int(name) < index else None
        return next((stage for stage in reversed(earlier) if stage.name == name.lower() and name), None)

    def base_stage(self, stage: Stage, variables: Mapping[str, str]) -> Stage | None:
        """The stage that another begins from; None if its base is an image."""
        base = Scope(variables, self.escape).word(stage.base)
        found = self.stage_before(base, stage.index)
        return None if base.isdigit() else found

    def dependencies(self, stage: Stage, variables: Mapping[str, str] | None = None) -> tuple[Stage, ...]:
        """The stages that one needs itself, in their order; variables are the global arguments.

        Raises DockerfileError for a stage that takes files from itself, from a later one, or from
        a number that is none.
        """
        needed = set()
        base = self.base_stage(stage, variables or {})
        if base is not None:
            needed.add(base.index)
        for origin, location in stage.origins:
            found = self.stage_before(origin, stage.index)
            if found is not None:
                needed.add(found.index)
            else:
                self._check_origin(origin, stage, location)
        return tuple(self.stages[index] for index in sorted(needed))

    def stages_needed(
        self, target: str = "", variables: Mapping[str, str] | None = None
    ) -> tuple[Stage, ...]:
        """The stages to be built for a target, in the order of the file, the target last.

        variables are the values of the global arguments (see arguments.global_arguments).
        Raises DockerfileError.
        """
        goal = self.target(target)
        needed = {goal.index}
        # Stages depend on earlier ones only, so that one pass backwards finds all.
        for index in range(goal.index, -1, -1):
            if index in needed:
                needed |= {stage.index for stage in self.dependencies(self.stages[index], variables)}
        return tuple(self.stages[index] for index in sorted(needed))

    def _check_origin(self, origin: str, stage: Stage, location: Location) -> None:
        if origin.isascii() and origin.isdigit():
            raise DockerfileError(f"invalid stage index {origin}", location=location, source=self.text)
        later = [other for other in self.stages[stage.index :] if origin and other.name == origin.lower()]
        if later:
            message = (
                f'cannot copy from stage "{origin}", it needs to be defined before current stage '
                f'"{stage.name or stage.index}"'
            )
            raise DockerfileError(message, location=location, source=self.text)


def _origins(instruction: Instruction) -> Iterator[str]:
    if isinstance(instruction, Copy) and instruction.origin:
        yield instruction.origin
    elif isinstance(instruction, Run):
        yield from filter(None, map(mount_origin, instruction.mount_flags))
