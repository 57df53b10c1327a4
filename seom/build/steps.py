"""Executing a stage: every instruction is a key and, if the cache does not know it, an execution."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from seom.build.cache import step_key
from seom.build.dockerfile import DockerfileError, Scope, Stage, parse_instruction
from seom.build.dockerfile.arguments import PROXY_ARGUMENTS, argument_value
from seom.build.dockerfile.errors import excerpt
from seom.build.dockerfile.instructions import Add, Arg, Copy, Instruction, Label, Onbuild, Run, Workdir
from seom.build.metadata import change_of, command_words, run_text, working_directory
from seom.build.mounting import Mounting
from seom.build.narration import Chapter
from seom.build.running import Command, CommandRunner
from seom.build.state import Change, State, moment
from seom.build.threads import run_to_end
from seom.build.transfer import Transfer
from seom.errors import SeomError
from seom.oci.image_config import History
from seom.storage.layers import Layer

if TYPE_CHECKING:
    from seom.build.building import Building

Make = Callable[[], Awaitable[Layer | None]]


class StageExecution:
    """One stage of one build."""

    def __init__(self, build: Building, stage: Stage, chapter: Chapter) -> None:
        self._build = build
        self._stage = stage
        self._chapter = chapter
        self._arguments: dict[str, str] = {}
        self._runner = CommandRunner(build.engine, build.options)

    async def run(self, base: State, triggers: Iterable[str]) -> State:
        """Execute every instruction on top of a base; triggers are the base's ONBUILD instructions."""
        state = base
        self._chapter.result(base.image_id())
        for text in triggers:
            trigger = parse_instruction(text, self._stage.start.location)
            self._chapter.tell(f"# Executing build trigger: {text}\n")
            state = await self._located(trigger, state)
        for instruction in self._stage.instructions:
            self._chapter.step(instruction.original)
            state = await self._located(instruction, state)
        return state

    async def _located(self, instruction: Instruction, state: State) -> State:
        """Execute one instruction; a failure shows where it stands."""
        try:
            return await self._execute(instruction, state)
        except DockerfileError as error:
            self._show(instruction, error.hint)
            raise
        except SeomError:
            self._show(instruction)
            raise

    def _show(self, instruction: Instruction, hint: str = "") -> None:
        build = self._build
        lines = excerpt(build.dockerfile.text, instruction.location)
        more = f"hint: {hint}\n" if hint else ""
        self._chapter.tell(f"{build.options.dockerfile}:{instruction.location.first}\n{lines}\n{more}")

    async def _execute(self, instruction: Instruction, state: State) -> State:
        scope = Scope({**self._arguments, **state.environment}, self._build.dockerfile.escape)
        if isinstance(instruction, Arg):
            instruction = self._declare(instruction, scope)
        elif not isinstance(instruction, Onbuild):
            instruction = instruction.expanded(scope)
        change = change_of(instruction, state)
        if change is not None:
            return await self.step(state, change)
        if isinstance(instruction, Run):
            return await self._run(instruction, state, scope)
        if isinstance(instruction, Workdir):
            return await self._workdir(instruction, state)
        assert isinstance(instruction, Copy | Add)
        change, make = await Transfer(
            self._build, instruction, state, self._stage.index, self._chapter
        ).prepare()
        return await self.step(state, change, make)

    async def step(self, state: State, change: Change, make: Make | None = None) -> State:
        """The state after a step: from the cache, or by making its layer."""
        build = self._build
        key = step_key(state.key, change.created_by, *change.inputs, build.epoch)
        async with build.cache_lock(key):
            found = None if build.options.no_cache else build.find(key)
            if found is not None:
                layer, created_ns = found
                self._chapter.cached()
            else:
                layer = await make() if make else None
                created_ns = time.time_ns()
                build.remember(key, state.key, change.created_by, layer, created_ns)
        created = moment(created_ns if build.epoch is None else build.epoch * 1_000_000_000)
        record = History(created=created, created_by=change.created_by, empty_layer=layer is None)
        state = state.after(key, record, layer, change.config)
        if change.author:
            state = replace(state, author=change.author)
        if change.command_set is not None:
            state = replace(state, command_set=change.command_set)
        self._chapter.result(state.image_id())
        return state

    # ARG

    async def add_labels(self, labels: Label, state: State) -> State:
        """The labels that the client wants, as they are: their words are none of the Dockerfile's."""
        self._chapter.step(labels.original)
        change = change_of(labels, state)
        assert change is not None
        return await self.step(state, change)

    def _declare(self, instruction: Arg, scope: Scope) -> Arg:
        """Give the arguments their values: from the client, the default, or the global one."""
        declared = []
        for argument in instruction.arguments:
            name = scope.word(argument.name)
            default = None if argument.default is None else scope.word(argument.default)
            argument = replace(argument, name=name, default=default)
            value = argument_value(argument, self._build.given, self._build.global_arguments)
            if value is not None:
                self._arguments[name] = value
                scope.variables = {name: value, **scope.variables}
            declared.append(argument)
        self._build.used_arguments.update(argument.name for argument in declared)
        return replace(instruction, arguments=tuple(declared))

    # RUN

    async def _run(self, instruction: Run, state: State, scope: Scope) -> State:
        build = self._build
        shell_form = instruction.command.shell
        words = command_words(instruction.command, state)
        if shell_form:
            words = [*state.shell, instruction.shell_line]
        environment = state.environment
        declared = {name: value for name, value in self._arguments.items() if name not in environment}
        hidden = {
            name: value
            for name, value in build.given.items()
            if name in PROXY_ARGUMENTS and name not in declared
        }
        prefix = f"|{len(declared)} {' '.join(f'{k}={v}' for k, v in declared.items())} " if declared else ""
        mounting = Mounting(build, instruction.mounts(scope), state, self._stage.index)
        inputs = await mounting.inputs()
        change = Change(
            state.config,
            f"RUN {prefix}{run_text(words, shell_form)}",
            inputs=(instruction.network, instruction.security, *inputs),
        )

        async def make() -> Layer | None:
            async with mounting.prepared(instruction) as (points, stubs, script):
                command = Command(
                    arguments=[*state.shell, script] if script else words,
                    text=run_text(words, shell_form),
                    config=state.config,
                    variables={**hidden, **declared},
                    network="" if instruction.network == "default" else instruction.network,
                    privileged=instruction.security == "insecure",
                    mounts=points,
                    stubs=stubs,
                )
                begun: list[str] = []

                def tell_begun(container: str) -> None:
                    begun.append(container)
                    self._chapter.running(container)

                try:
                    return await self._runner.run(
                        command, state.layers, build.lease, self._chapter.tell, tell_begun, build.epoch
                    )
                finally:
                    for container in begun:
                        self._chapter.removed(container)

        return await self.step(state, change, make)

    # WORKDIR

    async def _workdir(self, instruction: Workdir, state: State) -> State:
        path = working_directory(state, instruction.path)
        config = msgspec.structs.replace(state.config, working_dir=path)

        def make() -> Layer | None:
            return self._build.change_files(state, lambda copier: copier.make(path))

        return await self.step(state, Change(config, f"WORKDIR {path}"), lambda: run_to_end(make))
