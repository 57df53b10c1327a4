"""From a container's wishes for storage to mounts: at creation, at each start, after each exit.

resolve()   creation: check everything, make volumes, list the mount points (stored with the container)
populate()  creation: copy what the image has at a path into the new, empty volume mounted there
prepare()   start: mount volumes that have mount options, make bind sources, build the OCI mounts
release()   exit: unmount what nobody uses any more
"""

from __future__ import annotations

import asyncio
import os
import posixpath
from collections.abc import Callable, Iterable, Sequence

from seom.containers.config import Config, HostConfig
from seom.engine.events import EventBus
from seom.engine.mount_requests import (
    MountPoint,
    mount_point,
    parse_bind,
    parse_volumes_from,
    tmpfs_point,
)
from seom.engine.volumes import Volumes
from seom.errors import Conflict, InvalidParameter, NotFound, SystemFailure
from seom.oci import runtime_spec as oci
from seom.volumes.local import ANONYMOUS_LABEL, check_name
from seom.volumes.propagation import refusal

__all__ = [
    "MountPoint",
    "hold",
    "oci_mounts",
    "populate",
    "prepare",
    "publish_mounts",
    "release",
    "remove_anonymous",
    "resolve",
    "rootfs_propagation",
]


async def resolve(
    host: HostConfig,
    config: Config,
    volumes: Volumes,
    container_id: str,
    mounts_of: Callable[[str], Sequence[MountPoint]],
) -> list[MountPoint]:
    """The mount points of a new container, by destination; volumes are made and reserved for it.

    config is the container's with the image's volumes merged in; mounts_of gives the mount points of
    the container that --volumes-from names (and raises NotFound). Call volumes.settle(container_id)
    when the container's row exists or creation failed.
    Raises InvalidParameter, NotFound, SystemFailure.
    """
    requested = _requested(host)
    inherited = {point.destination: point for point in _inherited(host.volumes_from or [], mounts_of)}
    points = inherited | requested
    for destination in config.volumes or {}:
        normal = posixpath.normpath("/" + destination.lstrip("/"))
        if normal != "/" and normal not in points:
            points[normal] = MountPoint(
                type="volume", destination=normal, driver=host.volume_driver, copy_data=True
            )
    # All checks come before the first volume is made: a refused request leaves nothing behind.
    for point in points.values():
        if point.type == "volume" and point.name:
            check_name(point.name)
    explicit = {point.destination for point in requested.values()}
    for point in points.values():
        if point.type == "volume":
            await _make_volume(point, volumes, container_id, point.destination in explicit)
    return sorted(points.values(), key=lambda point: point.destination)


def _requested(host: HostConfig) -> dict[str, MountPoint]:
    points: dict[str, MountPoint] = {}
    found = [tmpfs_point(destination, options) for destination, options in (host.tmpfs or {}).items()]
    found += [parse_bind(text, host.volume_driver) for text in host.binds or []]
    for request in host.mounts or []:
        point = mount_point(request)
        if point.type == "bind" and not point.create_source and not os.path.exists(point.source):
            raise _missing_source(point)
        found.append(point)
    for point in found:
        if point.destination in points:
            raise InvalidParameter(f"Duplicate mount point: {point.destination}")
        points[point.destination] = point
    return points


def _inherited(
    volumes_from: Iterable[str], mounts_of: Callable[[str], Sequence[MountPoint]]
) -> Iterable[MountPoint]:
    for text in volumes_from:
        container, mode = parse_volumes_from(text)
        for point in mounts_of(container):
            if point.type == "tmpfs":
                continue
            yield MountPoint(
                type=point.type,
                destination=point.destination,
                name=point.name,
                source=point.source,
                driver=point.driver,
                mode=mode,
                rw=point.rw and "ro" not in mode.split(","),
                propagation=point.propagation,
                subpath=point.subpath,
                create_source=point.create_source,
                recursive=point.recursive,
                recursive_read_only=point.recursive_read_only,
            )


async def _make_volume(point: MountPoint, volumes: Volumes, container_id: str, explicit: bool) -> None:
    labels = dict(point.labels or {}) | ({} if point.name else {ANONYMOUS_LABEL: ""})
    volume = await volumes.create(
        point.name, point.driver, point.driver_options, labels, reserved_for=container_id
    )
    point.name, point.driver, point.source = volume.name, volume.driver, str(volume.mountpoint)
    if explicit and not point.mode:
        point.mode = "z"  # what clients are used to see for a volume that was asked for


async def populate(points: Sequence[MountPoint], lowers: Sequence[str], volumes: Volumes) -> None:
    """Copy the image's content into the new container's empty volumes.

    lowers are the directories of the image's layers, topmost first. Raises SystemFailure.
    """
    for point in points:
        if point.type == "volume" and point.copy_data and not point.subpath:
            await volumes.fill(point.name, point.destination, lowers)


async def prepare(points: Sequence[MountPoint], container_id: str, volumes: Volumes) -> list[oci.Mount]:
    """What to mount in a container that starts, parents first; volumes in use count as mounted.

    Raises InvalidParameter for a bind source that is gone, SystemFailure when a mount fails.
    Call release() when the container has ended, also after a failed start.
    """
    sources: dict[str, str] = {}
    for point in points:
        if point.type == "volume":
            sources[point.destination] = await volumes.mount(point, container_id)
        elif point.type == "bind":
            await asyncio.to_thread(_check_bind_source, point)
    return oci_mounts(points, sources)


async def release(points: Sequence[MountPoint], container_id: str, volumes: Volumes) -> None:
    """Undo prepare(); may be called again."""
    for point in points:
        if point.type == "volume":
            await volumes.unmount(point, container_id)


async def remove_anonymous(points: Sequence[MountPoint], volumes: Volumes) -> None:
    """Remove the volumes that were made for a container without a name, unless another one has them."""
    for point in points:
        volume = volumes.find(point.name) if point.type == "volume" else None
        if volume is not None and volume.anonymous:
            try:
                await volumes.remove(volume.name)
            except (Conflict, NotFound):
                continue


def hold(points: Sequence[MountPoint], container_id: str, volumes: Volumes) -> None:
    """Tell a new daemon's volumes what a container has mounted that went on running."""
    for point in points:
        if point.type == "volume":
            volumes.hold(point, container_id)


def publish_mounts(points: Sequence[MountPoint], container_id: str, events: EventBus, action: str) -> None:
    """Publish ``mount`` or ``unmount`` for every volume of a container."""
    for point in points:
        if point.type != "volume":
            continue
        attributes = {"container": container_id, "driver": point.driver}
        if action == "mount":
            attributes |= {
                "destination": point.destination,
                "propagation": point.propagation,
                "read/write": str(point.rw).lower(),
            }
        events.publish("volume", action, point.name, attributes)


def oci_mounts(points: Sequence[MountPoint], sources: dict[str, str]) -> list[oci.Mount]:
    """The mounts of a runtime specification; sources replaces what is mounted at a destination."""
    by_depth = sorted(points, key=lambda point: point.destination.count("/"))
    return [_oci_mount(point, sources.get(point.destination, point.source)) for point in by_depth]


def _oci_mount(point: MountPoint, source: str) -> oci.Mount:
    if point.type == "tmpfs":
        return oci.Mount(
            destination=point.destination, type="tmpfs", source="tmpfs", options=list(point.tmpfs_options)
        )
    options = ["rbind" if point.recursive else "bind"]
    if not point.rw:
        options += ["ro", *(["rro"] if point.recursive and point.recursive_read_only else [])]
    options.append(point.propagation or "rprivate")
    return oci.Mount(destination=point.destination, type="bind", source=source, options=options)


def rootfs_propagation(points: Iterable[MountPoint]) -> str:
    """The propagation that the container's root needs for its binds; empty for the default."""
    wanted = {point.propagation.removeprefix("r") for point in points if point.type == "bind"}
    return "rshared" if "shared" in wanted else "rslave" if "slave" in wanted else ""


def _check_bind_source(point: MountPoint) -> None:
    _make_bind_source(point)
    reason = refusal(point.source, point.propagation)
    if reason:
        raise InvalidParameter(reason)


def _make_bind_source(point: MountPoint) -> None:
    if os.path.exists(point.source):
        return
    if not point.create_source:
        raise _missing_source(point)
    try:
        os.makedirs(point.source, mode=0o755, exist_ok=True)
    except OSError as error:
        raise SystemFailure(
            f"error while creating mount source path '{point.source}': mkdir {error.filename}: "
            f"{(error.strerror or '').lower()}"
        ) from error


def _missing_source(point: MountPoint) -> InvalidParameter:
    return InvalidParameter(
        f'invalid mount config for type "bind": bind source path does not exist: {point.source}'
    )
