"""/sys/fs/cgroup inside a container: its own groups, bound from wherever the host mounts each hierarchy."""

from __future__ import annotations

import os

from seom.containers.mount_options import MountOptions
from seom.containers.targets import open_target
from seom.linux import mount as mnt
from seom.linux.libc import AT_FDCWD, AT_RECURSIVE


class Hierarchy:
    """A cgroup file system of the host; keys are how /proc/PID/cgroup names it ("" for v2)."""

    def __init__(self, mountpoint: str, root: str, keys: frozenset[str]) -> None:
        self.mountpoint = mountpoint
        self.root = root
        self.keys = keys


_hierarchies: list[Hierarchy] = []


def hierarchies() -> list[Hierarchy]:
    """The cgroup mounts of the host, looked up once, each hierarchy once."""
    if not _hierarchies:
        _hierarchies.extend(_find_hierarchies())
    return _hierarchies


def _find_hierarchies() -> list[Hierarchy]:
    """See proc(5), mountinfo."""
    found: dict[frozenset[str], Hierarchy] = {}
    with open("/proc/self/mountinfo") as file:
        for line in file:
            fields, _, rest = line.partition(" - ")
            fstype, _, options = rest.split()[:3]
            if fstype not in ("cgroup", "cgroup2"):
                continue
            root, mountpoint = fields.split()[3:5]
            keys = frozenset({""} if fstype == "cgroup2" else set(options.split(",")) - {"rw", "ro"})
            found.setdefault(keys, Hierarchy(mountpoint, root, keys))
    return list(found.values())


def own_groups() -> dict[str, str]:
    """The caller's group in each hierarchy: {controller, name=..., or "" for v2: path}."""
    groups: dict[str, str] = {}
    with open("/proc/self/cgroup") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            groups.update(dict.fromkeys(controllers.split(","), path))
    return groups


def mount_cgroups(
    root: int, destination: str, options: MountOptions, groups: dict[str, str], private: bool
) -> None:
    """Show the container's groups at destination, as its root of each hierarchy.

    groups are what own_groups() said before the process got a cgroup namespace, in which all of them
    are "/". On a host with v2 alone, destination is that hierarchy (all of it without a private cgroup
    namespace); otherwise a tmpfs with one directory for each hierarchy the container has a group in.
    """
    hosts = hierarchies()
    if len(hosts) == 1 and "" in hosts[0].keys:
        _bind(hosts[0], groups.get("", "/") if private else "/", root, destination, options)
        return
    detached = _new_tmpfs()
    target = open_target(root, destination, directory=True)
    mnt.attach(detached, target)
    os.close(target)
    confined = any(group != "/" for group in groups.values())
    for host in hosts:
        group = next((groups[key] for key in host.keys if key in groups), None)
        if group is not None and (group != "/" or not confined):
            _add_hierarchy(detached, host, group, sorted(host.keys & groups.keys()))
    mnt.mount_setattr(detached, "", flags=AT_RECURSIVE, attr_set=options.attr_set | options.recursive_set)
    os.close(detached)


def _new_tmpfs() -> int:
    context = mnt.fsopen("tmpfs")
    try:
        mnt.fsconfig_set_string(context, "source", "tmpfs")
        mnt.fsconfig_set_string(context, "mode", "755")
        mnt.fsconfig_create(context)
        return mnt.fsmount(context)
    finally:
        os.close(context)


def _add_hierarchy(tmpfs: int, host: Hierarchy, group: str, controllers: list[str]) -> None:
    name = os.path.basename(host.mountpoint)
    os.mkdir(name, 0o755, dir_fd=tmpfs)
    detached = mnt.open_tree(AT_FDCWD, _path(host, group), mnt.OPEN_TREE_CLONE)
    mnt.move_mount(detached, "", tmpfs, name, mnt.MOVE_MOUNT_F_EMPTY_PATH)
    os.close(detached)
    if len(controllers) > 1:  # "cpu,cpuacct" is also known as cpu and as cpuacct
        for controller in controllers:
            os.symlink(name, controller, dir_fd=tmpfs)


def _path(host: Hierarchy, group: str) -> str:
    """Where a group is in the host's mount of the hierarchy."""
    if host.root != "/":
        group = group.removeprefix(host.root)
    return host.mountpoint + (group if group != "/" else "")


def _bind(host: Hierarchy, group: str, root: int, destination: str, options: MountOptions) -> None:
    detached = mnt.open_tree(AT_FDCWD, _path(host, group), mnt.OPEN_TREE_CLONE)
    try:
        options.apply(detached)
        target = open_target(root, destination, directory=True)
        mnt.attach(detached, target)
        os.close(target)
    finally:
        os.close(detached)
