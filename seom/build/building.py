"""One build: its stages run as a graph, each as soon as what it needs is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

from seom.build.checking import refuse_findings
from seom.build.copying import Copier, Rules
from seom.build.dockerfile import Dockerfile, DockerfileError, Scope, Stage, parse
from seom.build.dockerfile.arguments import PROXY_ARGUMENTS, global_arguments, platform_arguments
from seom.build.dockerfile.instructions import KeyValue, Label
from seom.build.narration import Chapter, Narrator
from seom.build.options import BuildOptions
from seom.build.sources import Excluded
from seom.build.squashing import apply_layers
from seom.build.state import State, from_image, from_scratch, from_stage
from seom.build.steps import StageExecution
from seom.build.threads import run_to_end
from seom.build.workspace import Workspace
from seom.dockerignore import IgnoreRules
from seom.errors import InvalidParameter, NotFound
from seom.images.progress import Message, Report
from seom.images.store import Image
from seom.oci.descriptor import Platform, host_platform, matches, parse_platform
from seom.oci.reference import parse_reference
from seom.storage.adoption import adopt_upper
from seom.storage.layers import Layer
from seom.storage.leases import Lease

if TYPE_CHECKING:
    from seom.build.builds import Builds

SCRATCH = "scratch"
LARGEST_DOCKERFILE_BYTES = 8 << 20
FOREIGN_PREFIX = ".dockerfile."
"""Clients call a Dockerfile so that is not in the context."""
EPOCH_ARGUMENT = "SOURCE_DATE_EPOCH"


class Building:
    """What the stages of one build share."""

    def __init__(
        self, builds: Builds, options: BuildOptions, workspace: Workspace, lease: Lease, report: Report
    ) -> None:
        """workspace holds the context; read the Dockerfile with open()."""
        self.engine = builds.engine
        self.cache_mounts = builds.cache_mounts
        self.options = options
        self.workspace = workspace
        self.lease = lease
        self._builds = builds
        self._report = report
        self.given = {name: value for name, value in options.build_args.items() if value is not None}
        self.epoch = _epoch(self.given.get(EPOCH_ARGUMENT, ""))
        self.platform = parse_platform(options.platform) if options.platform else host_platform()
        self.dockerfile, self.global_arguments = self._read()
        self.used_arguments: set[str] = set()
        self._stages: dict[int, asyncio.Task[State]] = {}
        self._images: dict[tuple[str, str], asyncio.Task[Image]] = {}
        self._hide_ignored()

    # Reading

    def _read(self) -> tuple[Dockerfile, Mapping[str, str]]:
        """The Dockerfile, and the values of its global arguments."""
        name = self.options.dockerfile
        content = self.workspace.read_context(name, LARGEST_DOCKERFILE_BYTES)
        if content is None:
            raise InvalidParameter(f"Cannot locate specified Dockerfile: {name}")
        if not content.strip():
            raise InvalidParameter(f"the Dockerfile ({name}) cannot be empty")
        predefined = platform_arguments(host_platform(), self.platform, self.options.target)
        try:
            dockerfile = parse(content.decode("utf-8", "replace"))
            images = self.engine.images.store
            refuse_findings(dockerfile, self.workspace, self.options, images, self._report)
            return dockerfile, global_arguments(dockerfile, self.given, predefined)
        except DockerfileError as error:
            raise InvalidParameter(error.render(name)) from error

    def _hide_ignored(self) -> None:
        """The client sends these two even when .dockerignore names them; COPY shall not find them then."""
        dockerfile = self.options.dockerfile
        text = self.workspace.read_context(f"{dockerfile}.dockerignore", LARGEST_DOCKERFILE_BYTES)
        if text is None:
            text = self.workspace.read_context(".dockerignore", LARGEST_DOCKERFILE_BYTES)
        rules = IgnoreRules((text or b"").decode("utf-8", "replace"))
        for name in (dockerfile, ".dockerignore"):
            if rules.ignores(name) or name.startswith(FOREIGN_PREFIX):
                self.workspace.forget(name)

    # Running

    async def run(self) -> State:
        """Build what the target needs; returns its state. Raises what the first failing step raised."""
        try:
            needed = self.dockerfile.stages_needed(self.options.target, self.global_arguments)
        except DockerfileError as error:
            raise InvalidParameter(error.render(self.options.dockerfile)) from error
        extra = 1 if self.options.labels else 0
        lengths = [1 + len(stage.instructions) for stage in needed]
        lengths[-1] += extra
        narrator = Narrator(self._report, lengths)
        try:
            async with asyncio.TaskGroup() as group:
                for stage, chapter in zip(needed, narrator.chapters, strict=True):
                    work = self._run_stage(stage, chapter, is_target=stage is needed[-1])
                    self._stages[stage.index] = group.create_task(work)
        except BaseExceptionGroup as failures:
            narrator.end_all()
            raise _first(failures) from failures
        finally:
            for pull in self._images.values():
                pull.cancel()
        self._warn_unused()
        state = self._stages[needed[-1].index].result()
        return await self._squashed(state) if self.options.squash else state

    async def _squashed(self, state: State) -> State:
        base = replace(state, layers=state.layers[: state.base_layers])
        above = self.layer_paths(replace(state, layers=state.layers[state.base_layers :]))

        def squash() -> Layer | None:
            return self.change_files(base, lambda copier: apply_layers(copier, above[::-1]))

        return state.squashed(await run_to_end(squash))

    async def _run_stage(self, stage: Stage, chapter: Chapter, is_target: bool) -> State:
        execution = StageExecution(self, stage, chapter)
        chapter.step(stage.start.original)
        base, triggers = await self._base(stage, chapter)
        state = await execution.run(base, triggers)
        if is_target and self.options.labels:
            state = await execution.add_labels(self._wanted_labels(stage), state)
        chapter.end()
        return state

    def _wanted_labels(self, stage: Stage) -> Label:
        pairs = tuple(KeyValue(name, value) for name, value in sorted(self.options.labels.items()))
        text = "LABEL " + " ".join(f"{pair.key}={pair.value}" for pair in pairs)
        return Label(location=stage.location, original=text, labels=pairs)

    async def _base(self, stage: Stage, chapter: Chapter) -> tuple[State, Sequence[str]]:
        """Where a stage begins, and the triggers that wait there."""
        found = self.dockerfile.base_stage(stage, self.global_arguments)
        if found is not None:
            state = await asyncio.shield(self._stages[found.index])
            return from_stage(state), state.config.on_build or ()
        scope = Scope(self.global_arguments, self.dockerfile.escape)
        base, platform = scope.word(stage.base), scope.word(stage.platform)
        wanted = parse_platform(platform) if platform else self.platform
        if base == SCRATCH:
            return from_scratch(wanted), ()
        image = await self._image(base, wanted, bool(platform), chapter.message)
        return from_image(image), image.config.execution.on_build or ()

    def _warn_unused(self) -> None:
        known = self.used_arguments | self.global_arguments.keys() | {EPOCH_ARGUMENT}
        unused = [name for name in self.given if name not in known | PROXY_ARGUMENTS]
        if unused:
            text = f"[Warning] One or more build-args [{' '.join(unused)}] were not consumed\n"
            self._report(Message(stream=text))

    # Images

    async def _image(self, name: str, platform: Platform, explicit: bool, report: Report) -> Image:
        """A base image, pulled when it is not here (or when that was asked for); once in a build.

        An image of another platform that is here will do unless the platform was asked for.
        """
        key = (name, str(platform))
        if key not in self._images:
            self._images[key] = asyncio.ensure_future(self._fetch(name, platform, explicit, report))
        image = await asyncio.shield(self._images[key])
        for layer in image.layers:
            self.lease.hold(layer.diff_id, layer.blob)
        return image

    async def _fetch(self, name: str, platform: Platform, explicit: bool, report: Report) -> Image:
        images = self.engine.images
        if not self.options.pull:
            try:
                found = images.store.resolve(name)
                if matches(found.config.platform, platform) or not (explicit or self.options.platform):
                    return found
            except NotFound:
                pass
        reference = parse_reference(name).with_default_tag()
        account = self.options.account(reference.domain)
        await self.engine.distribution.pull(reference, report, platform, account)
        return images.store.resolve(name)

    # For the steps

    async def tree_of(self, origin: str, index: int) -> int:
        """The tree that --from names in a stage with this index: the context, a stage, or an image."""
        if not origin:
            return self.workspace.context
        stage = self.dockerfile.origin_stage(origin, index)
        if stage is not None:
            if stage.index not in self._stages:
                raise InvalidParameter(
                    f'stage "{origin}" is used only by an ONBUILD trigger of the base image, '
                    "so that it was not built; make the target need it, too"
                )
            state = await asyncio.shield(self._stages[stage.index])
            layers = self.layer_paths(state)
        else:
            image = await self._image(origin, self.platform, False, self._report)
            layers = self.engine.images.layer_paths(image)
        return await run_to_end(lambda: self.workspace.tree(layers))

    def layer_paths(self, state: State) -> list[str]:
        """The directories of a state's layers, topmost first."""
        return self.engine.images.layer_paths_of([layer.diff_id for layer in state.layers])

    def change_files(
        self,
        state: State,
        change: Callable[[Copier], None],
        rules: Rules = Rules(),  # noqa: B008
    ) -> Layer | None:
        """A layer of what change() does to a state's files; None for nothing. Blocks."""
        with self.workspace.writable(self.layer_paths(state)) as (root, upper):
            change(Copier(root, rules))
        return adopt_upper(self.engine.images.layers, upper, self.lease, latest_mtime=self.epoch)

    def excluder(self, patterns: Sequence[str]) -> Excluded:
        """Which paths --exclude leaves out."""
        if not patterns:
            return _nothing
        return IgnoreRules("\n".join(patterns), "--exclude").ignores

    def cache_lock(self, key: str) -> AbstractAsyncContextManager[None]:
        """Held by whoever makes the result of a key: others wait, and then find it."""
        return self._builds.cache_lock(key)

    def find(self, key: str) -> tuple[Layer | None, int] | None:
        """What the cache knows of a key, protected from the collector from now on."""
        found = self._builds.cache.find(key)
        if found and found[0]:
            self.lease.hold(found[0].diff_id, found[0].blob)
        return found

    def remember(self, key: str, parent: str, text: str, layer: Layer | None, created_ns: int) -> None:
        """Tell the cache what a step led to."""
        self._builds.cache.add(key, parent, text, layer, created_ns)


def _epoch(text: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal():
        raise InvalidParameter(f"invalid {EPOCH_ARGUMENT}: {text!r} is not a number of seconds since 1970")
    return int(text)


def _first(group: BaseExceptionGroup) -> BaseException:
    """The failure that the others, if any, followed from or came with."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _nothing(path: str) -> bool:
    return False
