"""The nodes and links of a container's /dev."""

from __future__ import annotations

import os
import stat

from seom.containers.targets import open_parent, open_target
from seom.linux import mount as mnt
from seom.linux.libc import AT_FDCWD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from seom.oci.runtime_spec import Device, Mount

_DEFAULT_DEVICES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
_DEVICE_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
)


def make_devices(root: int, devices: Sequence[Device], mounts: Sequence[Mount]) -> None:
    """Make the nodes and links of /dev, unless /dev is bound from the host."""
    if any(mount.destination == "/dev" and mount.type == "bind" for mount in mounts):
        return
    directory = open_target(root, "/dev", directory=True)
    try:
        wanted = {device.path for device in devices}
        for name, major, minor in _DEFAULT_DEVICES:
            if f"/dev/{name}" not in wanted:
                _make_node(directory, name, stat.S_IFCHR | 0o666, os.makedev(major, minor), f"/dev/{name}")
        for name, link in _DEVICE_LINKS:
            _make_link(directory, name, link)
        if os.path.exists("/proc/kcore"):
            _make_link(directory, "core", "/proc/kcore")
        _make_link(directory, "ptmx", "pts/ptmx")
    finally:
        os.close(directory)
    for device in devices:
        if device.path != "/dev/ptmx":  # the container's own terminals, never the host's
            _make_device(root, device)
    for mount in mounts:
        if mount.destination == "/dev" and "ro" in mount.options:
            mnt.mount_setattr(root, "dev", attr_set=mnt.MOUNT_ATTR_RDONLY)


def _make_device(root: int, device: Device) -> None:
    kinds = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
    parent, name = open_parent(root, device.path)
    try:
        mode = 0o666 if device.file_mode is None else device.file_mode & 0o7777
        number = os.makedev(device.major, device.minor)
        _make_node(parent, name, kinds[device.type] | mode, number, device.path)
        os.chown(name, device.uid, device.gid, dir_fd=parent, follow_symlinks=False)
    finally:
        os.close(parent)


def _make_node(directory: int, name: str, mode: int, number: int, host_path: str) -> None:
    for _ in range(2):
        try:
            os.mknod(name, mode, number, dir_fd=directory)
            return
        except FileExistsError:
            os.unlink(name, dir_fd=directory)
        except PermissionError:
            break
    # A user namespace may not make nodes: bind the host's.
    os.close(os.open(name, os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666, dir_fd=directory))
    detached = mnt.open_tree(AT_FDCWD, host_path, mnt.OPEN_TREE_CLONE)
    mnt.move_mount(detached, "", directory, name, mnt.MOVE_MOUNT_F_EMPTY_PATH)
    os.close(detached)


def _make_link(directory: int, name: str, link: str) -> None:
    try:
        os.symlink(link, name, dir_fd=directory)
    except FileExistsError:
        if not stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            return
        os.unlink(name, dir_fd=directory)
        os.symlink(link, name, dir_fd=directory)
