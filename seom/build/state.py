"""A stage on its way: layers and configuration after some steps. States never change, steps make new ones."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import msgspec

from seom.build.cache import step_key
from seom.images.store import Image
from seom.oci.descriptor import Platform, digest_of
from seom.oci.image_config import ExecutionConfig, History, ImageConfig, RootFs, encode_image_config
from seom.storage.layers import Layer

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class State:
    """What a stage is so far. base is the configuration of the image it began from."""

    key: str
    base: ImageConfig
    config: ExecutionConfig
    layers: tuple[Layer, ...] = ()
    history: tuple[History, ...] = ()
    parent: str = ""
    """The id of the image it began from; empty for scratch."""
    base_layers: int = 0
    """How many of the layers are the base image's."""
    created: str = ""
    author: str = ""
    command_set: bool = False
    """Whether CMD was given in this stage: else ENTRYPOINT drops the one of the base image."""

    def after(self, key: str, step: History, layer: Layer | None, config: ExecutionConfig) -> State:
        """The state that a step leads to."""
        return replace(
            self,
            key=key,
            config=config,
            layers=(*self.layers, layer) if layer else self.layers,
            history=(*self.history, step),
            created=step.created or "",
        )

    def squashed(self, layer: Layer | None) -> State:
        """The state with all layers above the base image's replaced by one."""
        kept = self.base.history or []
        steps = [msgspec.structs.replace(step, empty_layer=True) for step in self.history[len(kept) :]]
        merge = History(
            created=self.created, comment="all layers of the build in one", empty_layer=layer is None
        )
        return replace(
            self,
            layers=(*self.layers[: self.base_layers], *([layer] if layer else [])),
            history=(*kept, *steps, merge),
        )

    @property
    def environment(self) -> dict[str, str]:
        """The variables of ENV, those of the base image included."""
        return dict(entry.partition("=")[::2] for entry in self.config.env or [])

    @property
    def shell(self) -> list[str]:
        """What runs the shell form of commands."""
        return self.config.shell or ["/bin/sh", "-c"]

    def document(self) -> ImageConfig:
        """The configuration of an image with this state."""
        base = self.base
        return ImageConfig(
            architecture=base.architecture,
            os=base.os,
            variant=base.variant,
            os_version=base.os_version,
            os_features=base.os_features,
            created=self.created or base.created,
            author=self.author or base.author,
            config=self.config,
            rootfs=RootFs(diff_ids=[layer.diff_id for layer in self.layers]),
            history=list(self.history),
        )

    def image_id(self) -> str:
        """The id that an image with this state has."""
        return digest_of(encode_image_config(self.document()))


@dataclass(frozen=True, slots=True)
class Change:
    """What an instruction does to the configuration, and how history tells of it."""

    config: ExecutionConfig
    created_by: str
    author: str = ""
    command_set: bool | None = None
    inputs: tuple[object, ...] = field(default=())
    """What else the result depends on."""


def from_scratch(platform: Platform) -> State:
    """The empty image."""
    base = ImageConfig(architecture=platform.architecture, os=platform.os, variant=platform.variant)
    config = ExecutionConfig(env=[f"PATH={DEFAULT_PATH}"])
    return State(key=step_key("", "scratch", str(platform)), base=base, config=config)


def from_image(image: Image) -> State:
    """A stage that begins with an image; its triggers are for whoever reads them first."""
    execution = image.config.execution
    env = execution.env or []
    if not any(entry.startswith("PATH=") for entry in env):
        env = [f"PATH={DEFAULT_PATH}", *env]
    return State(
        key=step_key("", "image", image.id),
        base=image.config,
        config=msgspec.structs.replace(
            execution, on_build=None, env=env, image="", hostname="", domainname=""
        ),
        layers=image.layers,
        history=tuple(image.config.history or ()),
        parent=image.id,
        base_layers=len(image.layers),
        created=image.config.created or "",
        author=image.config.author,
    )


def from_stage(state: State) -> State:
    """A stage that begins where another one has ended."""
    return replace(state, config=msgspec.structs.replace(state.config, on_build=None), command_set=False)


def moment(created_ns: int) -> str:
    """RFC 3339 with nanoseconds, as configurations have it."""
    seconds, nanoseconds = divmod(created_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"
