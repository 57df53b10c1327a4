"""Volumes with mount options: mounted on their directory while a container uses them."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path

from seom.linux import mount as mnt

_FLAGS = {
    "defaults": 0,
    "rw": 0,
    "ro": mnt.MS_RDONLY,
    "suid": 0,
    "nosuid": mnt.MS_NOSUID,
    "dev": 0,
    "nodev": mnt.MS_NODEV,
    "exec": 0,
    "noexec": mnt.MS_NOEXEC,
    "bind": mnt.MS_BIND,
    "rbind": mnt.MS_BIND | mnt.MS_REC,
    "async": 0,
    "sync": 0x10,
    "dirsync": 0x80,
    "atime": 0,
    "noatime": 0x400,
    "diratime": 0,
    "nodiratime": 0x800,
    "relatime": 0x200000,
    "strictatime": 0x1000000,
}


def mount_volume(options: Mapping[str, str], target: Path) -> None:
    """Mount a device (options type, device, o) on target unless it is mounted. Blocks.

    Raises OSError. A host name in nfs's ``addr=`` is looked up: the kernel takes addresses only.
    """
    if is_mount_point(target):
        return
    fstype, device = options.get("type", ""), options.get("device", "")
    flags, data = parse_options(options.get("o", ""))
    if fstype in ("nfs", "nfs4", "cifs"):
        data = _resolve_address(data)
    bind = bool(flags & mnt.MS_BIND)
    mnt.mount(device, str(target), None if bind else fstype, flags, data or None)
    if bind and flags & ~(mnt.MS_BIND | mnt.MS_REC):
        # A bind takes its other flags only when it is mounted again.
        mnt.mount(None, str(target), None, flags & ~mnt.MS_REC | mnt.MS_REMOUNT)


def unmount_volume(target: Path) -> None:
    """Unmount what mount_volume() mounted; nothing happens when nothing is. Raises OSError. Blocks."""
    while is_mount_point(target):
        mnt.umount2(str(target), mnt.MNT_DETACH)


def is_mount_point(path: Path) -> bool:
    """Whether something is mounted at path, a file or directory; also a bind within one file system."""
    try:
        return _mount_id(path) != _mount_id(path.parent)
    except FileNotFoundError:
        return False


def _mount_id(path: Path) -> str:
    """See proc_pid_fdinfo(5)."""
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fields = Path(f"/proc/self/fdinfo/{descriptor}").read_text().split()
        return fields[fields.index("mnt_id:") + 1]
    finally:
        os.close(descriptor)


def parse_options(text: str) -> tuple[int, str]:
    """The flags of mount(2) and the rest, which is for the file system, of comma-separated options."""
    flags, data = 0, []
    for option in filter(None, text.split(",")):
        if option in _FLAGS:
            flags |= _FLAGS[option]
        else:
            data.append(option)
    return flags, ",".join(data)


def _resolve_address(data: str) -> str:
    found = re.search(r"(?:^|,)addr=([^,]+)", data)
    if not found:
        return data
    address = socket.getaddrinfo(found[1], None, type=socket.SOCK_STREAM)[0][4][0]
    return data[: found.start(1)] + str(address) + data[found.end(1) :]


def pin_subpath(volume: Path, subpath: str, pin: Path) -> None:
    """Bind a directory or file below a volume on the path pin, which nothing can exchange afterwards.

    Links must stay inside the volume. Raises OSError (ENOENT, EXDEV for an escape, ELOOP). Blocks.
    """
    root = os.open(volume, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = mnt.openat2(root, subpath, os.O_PATH, resolve=mnt.RESOLVE_BENEATH)
    finally:
        os.close(root)
    try:
        pin.parent.mkdir(parents=True, exist_ok=True)
        if os.path.isdir(f"/proc/self/fd/{found}"):
            pin.mkdir(exist_ok=True)
        else:
            pin.touch()
        mnt.mount(f"/proc/self/fd/{found}", str(pin), None, mnt.MS_BIND | mnt.MS_REC)
    finally:
        os.close(found)


def unpin(directory: Path) -> None:
    """Unmount and delete every pin in a directory. Raises OSError. Blocks."""
    if not directory.is_dir():
        return
    for pin in directory.iterdir():
        unmount_volume(pin)
        if pin.is_dir():
            pin.rmdir()
        else:
            pin.unlink()
    directory.rmdir()
