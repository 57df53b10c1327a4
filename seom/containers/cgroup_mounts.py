"""/sys/fs/cgroup inside a container: its own groups, bound from wherever the host mounts each hierarchy."""

from __future__ import annotations

import os
from functools import cache

from seom.containers.mount_options import MountOptions
from seom.containers.targets import open_target
from seom.linux import mount as mnt
from seom.linux.libc import AT_FDCWD


class Hierarchy:
    """A cgroup file system of the host; keys are how /proc/PID/cgroup names it ("" for v2)."""

    def __init__(self, mountpoint: str, root: str, keys: frozenset[str]) -> None:
        self.mountpoint = mountpoint
        self.root = root
        self.keys = keys


@cache
def hierarchies() -> list[Hierarchy]:
    """The cgroup mounts of the host, each hierarchy once. See proc(5), mountinfo."""
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


def mount_cgroups(root: int, destination: str, options: MountOptions, private: bool) -> None:
    """Show the caller's groups at destination, as the container's root of each hierarchy.

    On a host with v2 alone, destination is that hierarchy (all of it without a private cgroup
    namespace); otherwise a tmpfs with one directory for each.
    """
    hosts = hierarchies()
    groups = own_groups()
    if len(hosts) == 1 and "" in hosts[0].keys:
        _bind(hosts[0], groups.get("", "/") if private else "/", root, destination, options)
        return
    context = mnt.fsopen("tmpfs")
    mnt.fsconfig_set_string(context, "source", "tmpfs")
    mnt.fsconfig_set_string(context, "mode", "755")
    mnt.fsconfig_create(context)
    detached = mnt.fsmount(context, options.attr_set & ~mnt.MOUNT_ATTR_RDONLY)
    os.close(context)
    target = open_target(root, destination, directory=True)
    mnt.attach(detached, target)
    os.close(target)
    for host in hosts:
        name = os.path.basename(host.mountpoint)
        for key in host.keys:
            if key in groups:
                os.mkdir(name, 0o755, dir_fd=detached)
                _bind(host, groups[key], detached, name, options)
                break
        for controller in (host.keys & groups.keys()) - {name}:
            if "," in name:
                os.symlink(name, controller, dir_fd=detached)
    if options.attr_set & mnt.MOUNT_ATTR_RDONLY:
        mnt.mount_setattr(detached, "", attr_set=mnt.MOUNT_ATTR_RDONLY)
    os.close(detached)


def _bind(host: Hierarchy, group: str, root: int, destination: str, options: MountOptions) -> None:
    if host.root != "/":
        group = group.removeprefix(host.root)
    detached = mnt.open_tree(AT_FDCWD, host.mountpoint + (group if group != "/" else ""), mnt.OPEN_TREE_CLONE)
    try:
        options.apply(detached)
        target = open_target(root, destination, directory=True)
        mnt.attach(detached, target)
        os.close(target)
    finally:
        os.close(detached)
