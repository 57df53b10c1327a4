"""What the API says about images: list entries, inspection, history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from seom.engine.image_removal import chain_ids
from seom.engine.images import Images
from seom.engine.timestamps import format_timestamp
from seom.errors import SystemFailure
from seom.images.store import Image
from seom.oci.image_config import ExecutionConfig


class Summary(msgspec.Struct, rename="pascal"):
    """One entry of a list; sizes in bytes, -1 for what was not asked for."""

    id: str
    parent_id: str
    repo_tags: list[str]
    repo_digests: list[str]
    created: int
    size: int
    shared_size: int = -1
    labels: dict[str, str] | None = None
    containers: int = -1


class _GraphDriver(msgspec.Struct, rename="pascal"):
    data: dict[str, str]
    name: str = "overlay2"


class _RootFs(msgspec.Struct, rename="pascal"):
    type: str
    layers: list[str]


class _Metadata(msgspec.Struct, rename="pascal"):
    last_tag_time: str


class Inspection(msgspec.Struct, rename="pascal"):
    """Everything about one image."""

    id: str
    repo_tags: list[str]
    repo_digests: list[str]
    parent: str
    comment: str
    created: str
    docker_version: str
    author: str
    architecture: str
    os: str
    size: int
    graph_driver: _GraphDriver
    root_fs: _RootFs = msgspec.field(name="RootFS")
    metadata: _Metadata
    config: dict[str, Any]
    variant: str | msgspec.UnsetType = msgspec.UNSET
    os_version: str | msgspec.UnsetType = msgspec.UNSET


class HistoryItem(msgspec.Struct, rename="pascal"):
    """One step of how an image came to be."""

    id: str
    created: int
    created_by: str
    tags: list[str] | None
    size: int
    comment: str


def summaries(
    images: Images, shown: Sequence[Image], shared_size: bool = False, count_containers: bool = False
) -> list[Summary]:
    """The entries of a list."""
    users = _layer_users(images.store.all()) if shared_size else Counter()
    return [
        Summary(
            id=image.id,
            parent_id=image.parent,
            repo_tags=image.repo_tags,
            repo_digests=image.repo_digests,
            created=image.created_ns // 1_000_000_000,
            size=image.size_bytes,
            shared_size=_shared_bytes(image, users) if shared_size else -1,
            labels=image.config.execution.labels,
            containers=len(images.users(image.id)) if count_containers else -1,
        )
        for image in shown
    ]


def _layer_users(every: Sequence[Image]) -> Counter[str]:
    """How many images each chain of layers is part of."""
    return Counter(chain for image in every for chain in chain_ids(image.diff_ids))


def _shared_bytes(image: Image, users: Counter[str]) -> int:
    chains = zip(chain_ids(image.diff_ids), image.layers, strict=True)
    return sum(layer.size_bytes for chain, layer in chains if users[chain] > 1)


def inspection(images: Images, image: Image) -> Inspection:
    """The document of docker image inspect."""
    config = image.config
    return Inspection(
        id=image.id,
        repo_tags=image.repo_tags,
        repo_digests=image.repo_digests,
        parent=image.parent,
        comment=config.comment or _last_comment(image),
        created=config.created or "",
        docker_version=config.docker_version,
        author=config.author,
        config=_config(config.execution),
        architecture=config.architecture,
        os=config.os or "linux",
        size=image.size_bytes,
        graph_driver=_GraphDriver(_graph_data(images, image)),
        root_fs=_RootFs("layers", image.diff_ids),
        metadata=_Metadata(format_timestamp(image.tagged_ns)),
        variant=config.variant or msgspec.UNSET,
        os_version=config.os_version or msgspec.UNSET,
    )


def _config(config: ExecutionConfig) -> dict[str, Any]:
    """The defaults for containers, with the members that clients expect even when unset."""
    unset = {"User": "", "WorkingDir": ""} | dict.fromkeys(
        ("Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "Volumes")
    )
    return dict(sorted((unset | msgspec.to_builtins(config)).items()))


def _last_comment(image: Image) -> str:
    history = image.config.history
    return history[-1].comment if history else ""


def _graph_data(images: Images, image: Image) -> dict[str, str]:
    """Where the layers are: Docker's names for the topmost directory and those below it."""
    try:
        paths = images.layer_paths(image)
    except SystemFailure:
        paths = []
    if not paths:
        return {}
    topmost = paths[0]
    folder = topmost.removesuffix("/diff")
    data = {"MergedDir": f"{folder}/merged", "UpperDir": topmost, "WorkDir": f"{folder}/work"}
    return {"LowerDir": ":".join(paths[1:]), **data} if len(paths) > 1 else data


def history(images: Images, image: Image) -> list[HistoryItem]:
    """The steps of an image, newest first; only those made here have an id."""
    items: list[HistoryItem] = []
    layers = iter(image.layers)
    for step in image.config.history or []:
        layer = None if step.empty_layer else next(layers, None)
        items.append(
            HistoryItem(
                id="<missing>",
                created=_seconds(step.created),
                created_by=step.created_by,
                tags=None,
                size=layer.size_bytes if layer else 0,
                comment=step.comment,
            )
        )
    items.reverse()
    _name_steps(images, image, items)
    return items


def _name_steps(images: Images, image: Image, items: list[HistoryItem]) -> None:
    """Give the image's id to its last step, and its parents' ids to those before."""
    current: Image | None = image
    for item in items:
        if current is None:
            break
        item.id, item.tags = current.id, current.repo_tags or None
        parent = current.parent
        current = images.store.get(parent) if parent and images.store.exists(parent) else None


def _seconds(created: str | None) -> int:
    try:
        return int(msgspec.convert(created, datetime, strict=False).timestamp()) if created else 0
    except msgspec.ValidationError:
        return 0
