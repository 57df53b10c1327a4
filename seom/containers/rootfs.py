"""The container's file system: overlay root, mounts, devices, masked paths, pivot_root.

Runs in the container's own mount namespace, before the program is executed; when the process ends,
the kernel takes every mount away with the namespace. Targets inside the root are looked up with
openat2(2) and RESOLVE_IN_ROOT, so no link in an image can lead a mount out of it, and mounts are
attached by descriptor, so nothing can be exchanged in between.
"""

from __future__ import annotations

import errno
import os
import stat

from seom.containers.cgroup_mounts import mount_cgroups
from seom.containers.mount_options import PROPAGATION, MountOptions
from seom.containers.targets import open_target
from seom.linux import mount as mnt
from seom.linux.libc import AT_EMPTY_PATH, AT_FDCWD, AT_RECURSIVE
from seom.linux.namespaces import CLONE_NEWNS, setns
from seom.linux.overlay import new_overlay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from seom.oci.runtime_spec import Linux, Mount

_PAGE_BYTES = 4096
_NULL_DEVICE = os.makedev(1, 3)


def mount_overlay(lowers: Sequence[str], upper: str, work: str) -> int:
    """Make an overlay of lowers (topmost first): a detached mount's descriptor.

    Raises OSError: ENOENT for a missing directory, ELOOP when layers overlap.
    """
    try:
        return new_overlay(lowers, upper, work)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return _mount_overlay_at_once(lowers, upper, work)


def _mount_overlay_at_once(lowers: Sequence[str], upper: str, work: str) -> int:
    """mount_overlay by mount(2), whose options must fit one page: long lists go by descriptor."""
    opened: list[int] = []
    names = list(lowers)
    try:
        if any(":" in name or "," in name or "\\" in name for name in names) or (
            sum(map(len, names)) + len(names) + len(upper) + len(work) > _PAGE_BYTES - 64
        ):
            opened = [os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for name in names]
            names = [f"/proc/self/fd/{descriptor}" for descriptor in opened]
        data = f"lowerdir={':'.join(names)},upperdir={upper},workdir={work}"
        mnt.mount("overlay", work, "overlay", 0, data)
    finally:
        for descriptor in opened:
            os.close(descriptor)
    detached = mnt.open_tree(AT_FDCWD, work, mnt.OPEN_TREE_CLONE)
    mnt.umount2(work, mnt.MNT_DETACH)
    return detached


def clone_tree(path: str, recursive: bool) -> int:
    """A detached bind mount of path, which shares mounts with the host as path does.

    /proc/PID/root/... names a file of another container: what is mounted there can only be cloned
    from inside that process's mount namespace (open_tree(2), EINVAL).
    """
    flags = mnt.OPEN_TREE_CLONE | (AT_RECURSIVE if recursive else 0)
    process, separator, inside = path.partition("/root/")
    if not separator or not process.startswith("/proc/"):
        return mnt.open_tree(AT_FDCWD, path, flags)
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    other = os.open(f"{process}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(other, CLONE_NEWNS)
        try:
            return mnt.open_tree(AT_FDCWD, f"/{inside}", flags)
        finally:
            setns(own, CLONE_NEWNS)
    finally:
        os.close(own)
        os.close(other)


def clone_sources(mounts: Sequence[Mount], every: bool) -> dict[str, int]:
    """Clone the sources of bind mounts that the new process cannot: {destination: descriptor}.

    Those that are to stay shared with the host, before its namespace stops sharing; all of them,
    if it will be another user, who may not reach them.
    """
    sources: dict[str, int] = {}
    for mount in mounts:
        options = MountOptions.parse(mount.options)
        shared = any(flag == mnt.MS_SHARED for flag, _ in options.propagation)
        if (mount.type == "bind" or options.bind) and (every or shared):
            detached = clone_tree(mount.source, options.recursive)
            if not shared:
                mnt.mount_setattr(detached, "", flags=AT_RECURSIVE, propagation=mnt.MS_SLAVE)
            sources[mount.destination] = detached
    return sources


def clone_root(path: str) -> int:
    """A detached mount of a directory that is to be the root."""
    detached = clone_tree(path, recursive=True)
    mnt.mount_setattr(detached, "", flags=AT_RECURSIVE, propagation=mnt.MS_SLAVE)
    return detached


def mount_all(
    root: int,
    mounts: Sequence[Mount],
    sources: dict[str, int],
    groups: dict[str, str],
    private_cgroups: bool,
) -> None:
    """Mount everything the specification lists, in its order.

    Raises OSError whose filename is the destination.
    """
    for mount in mounts:
        try:
            _mount_one(root, mount, sources, groups, private_cgroups)
        except OSError as error:
            reason = error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
            text = f'cannot mount {mount.source or mount.type!r} at "{mount.destination}": {reason}'
            raise OSError(error.errno, text) from error


def _mount_one(
    root: int, mount: Mount, sources: dict[str, int], groups: dict[str, str], private_cgroups: bool
) -> None:
    options = MountOptions.parse(mount.options)
    if mount.type in ("cgroup", "cgroup2"):
        mount_cgroups(root, mount.destination, options, groups, private_cgroups)
        return
    if mount.type == "bind" or options.bind:
        detached = sources.get(mount.destination, -1)
        if detached < 0:
            detached = clone_tree(mount.source, options.recursive)
        is_directory = stat.S_ISDIR(os.fstat(detached).st_mode)
        options.apply(detached)
    else:
        detached = _new_filesystem(mount.type, mount.source, mount.destination, options)
        is_directory = True
    try:
        plain = mount.type in ("proc", "sysfs")
        target = open_target(root, mount.destination, directory=is_directory, follow=not plain)
        if mount.type == "tmpfs" and options.copy_up:
            _copy_up(target, detached)
        try:
            mnt.attach(detached, target)
        finally:
            os.close(target)
        for flag, recursive in options.propagation:
            mnt.mount_setattr(detached, "", flags=AT_RECURSIVE if recursive else 0, propagation=flag)
    finally:
        os.close(detached)


def _new_filesystem(fstype: str, source: str, destination: str, options: MountOptions) -> int:
    context = mnt.fsopen(fstype)
    try:
        if source:
            mnt.fsconfig_set_string(context, "source", source)
        for key, value in options.data:
            if value is None:
                mnt.fsconfig_set_flag(context, key)
            else:
                mnt.fsconfig_set_string(context, key, value)
        mnt.fsconfig_create(context)
        attributes = options.attr_set | options.recursive_set
        if destination == "/dev":
            attributes &= ~mnt.MOUNT_ATTR_RDONLY  # until its nodes are made
        return mnt.fsmount(context, attributes)
    except PermissionError:
        if fstype != "sysfs":
            raise
        # A user namespace that does not own the network namespace may not mount sysfs anew.
        detached = mnt.open_tree(AT_FDCWD, "/sys", mnt.OPEN_TREE_CLONE | AT_RECURSIVE)
        options.apply(detached)
        return detached
    finally:
        os.close(context)


def _copy_up(target: int, detached: int) -> None:
    """Fill a new tmpfs with what it will hide."""
    import shutil

    shutil.copytree(f"/proc/self/fd/{target}", f"/proc/self/fd/{detached}", symlinks=True, dirs_exist_ok=True)


def enter(root: int) -> None:
    """Make root the file system's root and forget the host's."""
    os.fchdir(root)
    mnt.pivot_root(".", ".")
    # The old root is stacked on the new one; detached with everything under it.
    mnt.umount2(".", mnt.MNT_DETACH)
    os.chdir("/")


def restrict(linux: Linux, readonly_root: bool) -> None:
    """Hide masked paths, make read-only paths and the root read-only, set the root's propagation."""
    _mask(linux.masked_paths)
    for path in linux.readonly_paths:
        try:
            detached = mnt.open_tree(AT_FDCWD, path, mnt.OPEN_TREE_CLONE | AT_RECURSIVE)
        except FileNotFoundError:
            continue
        mnt.mount_setattr(detached, "", flags=AT_RECURSIVE, attr_set=mnt.MOUNT_ATTR_RDONLY)
        mnt.move_mount(detached, "", AT_FDCWD, path, mnt.MOVE_MOUNT_F_EMPTY_PATH)
        os.close(detached)
    propagation = linux.rootfs_propagation
    if propagation:
        mnt.set_propagation("/", PROPAGATION[propagation], recursive=propagation.startswith("r"))
    if readonly_root:
        mnt.mount_setattr(AT_FDCWD, "/", attr_set=mnt.MOUNT_ATTR_RDONLY)


def _mask(paths: Sequence[str]) -> None:
    """Cover files with /dev/null and directories with an empty read-only tmpfs."""
    empty = null = -1
    for path in paths:
        try:
            target = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not stat.S_ISDIR(os.fstat(target).st_mode):
            null = null if null >= 0 else _open_null()
            cover = mnt.open_tree(null, "", mnt.OPEN_TREE_CLONE | AT_EMPTY_PATH)
        elif empty < 0:
            cover = empty = _empty_directory()
        else:
            cover = mnt.open_tree(empty, "", mnt.OPEN_TREE_CLONE | AT_EMPTY_PATH)
        mnt.attach(cover, target)
        os.close(target)
        if cover != empty:
            os.close(cover)
    for descriptor in (empty, null):
        if descriptor >= 0:
            os.close(descriptor)


def _open_null() -> int:
    """The container's /dev/null, if it is the real one: anything else would unmask what it covers."""
    null = os.open("/dev/null", os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
    if os.fstat(null).st_rdev != _NULL_DEVICE:
        raise OSError(errno.EPERM, "the container's /dev/null is not the null device", "/dev/null")
    return null


def _empty_directory() -> int:
    context = mnt.fsopen("tmpfs")
    try:
        mnt.fsconfig_set_string(context, "source", "tmpfs")
        mnt.fsconfig_set_string(context, "nr_inodes", "2")
        mnt.fsconfig_create(context)
        return mnt.fsmount(context, mnt.MOUNT_ATTR_RDONLY)
    finally:
        os.close(context)
