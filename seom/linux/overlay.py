"""Overlay file systems as detached mounts: they exist as long as their descriptor, in no namespace."""

from __future__ import annotations

import errno
import os

from seom.linux import mount as mnt
from seom.linux.libc import AT_FDCWD
from seom.linux.namespaces import CLONE_NEWNS, unshare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def open_overlay(lowers: Sequence[str], upper: str | None = None, work: str | None = None) -> int:
    """A descriptor of the merged directories, topmost lower first; without upper it is read-only.

    Raises OSError: ENOENT for a missing directory, ELOOP when layers overlap.
    See the kernel's filesystems/overlayfs.
    """
    if upper is None and len(lowers) == 1:
        # overlayfs wants two lower layers, or an upper one
        return mnt.open_tree(AT_FDCWD, lowers[0], mnt.OPEN_TREE_CLONE)
    try:
        return new_overlay(lowers, upper, work)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return _in_private_namespace(lowers, upper, work)


def new_overlay(lowers: Sequence[str], upper: str | None, work: str | None) -> int:
    """open_overlay() by the new mount API alone.

    Raises OSError: EINVAL where the kernel is older than 6.7 (no "lowerdir+"), or when a path is
    longer than 255 bytes.
    """
    context = mnt.fsopen("overlay")
    try:
        mnt.fsconfig_set_string(context, "source", "overlay")
        for lower in lowers:
            mnt.fsconfig_set_string(context, "lowerdir+", lower)
        if upper is not None and work is not None:
            mnt.fsconfig_set_string(context, "upperdir", upper)
            mnt.fsconfig_set_string(context, "workdir", work)
        mnt.fsconfig_create(context)
        return mnt.fsmount(context, mnt.MOUNT_ATTR_RDONLY if upper is None else 0)
    finally:
        os.close(context)


def _in_private_namespace(lowers: Sequence[str], upper: str | None, work: str | None) -> int:
    """By mount(2) in a namespace of a thread that ends at once; the clone of the mount outlives it."""
    import threading  # not for the spawner, which never comes here

    outcome: list[int | OSError] = []

    def mount() -> None:
        try:
            unshare(CLONE_NEWNS)
            mnt.set_propagation("/", mnt.MS_PRIVATE)
            outcome.append(_mount_and_clone(lowers, upper, work))
        except OSError as error:
            outcome.append(error)

    thread = threading.Thread(target=mount)
    thread.start()
    thread.join()
    if isinstance(outcome[0], OSError):
        raise outcome[0]
    return outcome[0]


def _mount_and_clone(lowers: Sequence[str], upper: str | None, work: str | None) -> int:
    # Options must fit one page and may not contain colons: layers go by descriptor.
    opened = [os.open(lower, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for lower in lowers]
    try:
        data = "lowerdir=" + ":".join(f"/proc/thread-self/fd/{descriptor}" for descriptor in opened)
        if upper is not None:
            data += f",upperdir={upper},workdir={work}"
        target = work or lowers[0]
        mnt.mount("overlay", target, "overlay", mnt.MS_RDONLY if upper is None else 0, data)
        return mnt.open_tree(AT_FDCWD, target, mnt.OPEN_TREE_CLONE)
    finally:
        for descriptor in opened:
            os.close(descriptor)
