"""Mounting: mount(2), the file-descriptor based mount API (Linux 5.12 or later), openat2, pivot_root."""

from __future__ import annotations

import ctypes
import os
from ctypes import c_char_p, c_int, c_size_t, c_uint, c_ulong, c_void_p

from seom.linux.libc import AT_EMPTY_PATH, AT_FDCWD, AT_RECURSIVE, check, function, system_call

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_UNBINDABLE = 0x20000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000
MNT_DETACH = 2

FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_SET_FD = 5
FSCONFIG_CMD_CREATE = 6

FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR_ATIME = 0x70
MOUNT_ATTR_RELATIME = 0x0
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

RESOLVE_NO_XDEV = 0x1
RESOLVE_NO_MAGICLINKS = 0x2
RESOLVE_NO_SYMLINKS = 0x4
RESOLVE_BENEATH = 0x8
RESOLVE_IN_ROOT = 0x10


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


class _MountAttr(ctypes.Structure):
    _fields_ = [
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    ]


_mount = function("mount", c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
_umount2 = function("umount2", c_char_p, c_int)
_pivot_root = system_call("pivot_root", c_char_p, c_char_p)
_fsopen = system_call("fsopen", c_char_p, c_uint)
_fsconfig = system_call("fsconfig", c_int, c_uint, c_char_p, c_char_p, c_int)
_fsmount = system_call("fsmount", c_int, c_uint, c_uint)
_open_tree = system_call("open_tree", c_int, c_char_p, c_uint)
_move_mount = system_call("move_mount", c_int, c_char_p, c_int, c_char_p, c_uint)
_mount_setattr = system_call("mount_setattr", c_int, c_char_p, c_uint, c_void_p, c_size_t)
_openat2 = system_call("openat2", c_int, c_char_p, c_void_p, c_size_t)


def mount(
    source: str | None, target: str, fstype: str | None, flags: int = 0, data: str | None = None
) -> None:
    """mount(2)."""
    result = _mount(
        os.fsencode(source) if source is not None else None,
        os.fsencode(target),
        fstype.encode() if fstype is not None else None,
        flags,
        os.fsencode(data) if data is not None else None,
    )
    check(result, "mount", target)


def umount2(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    check(_umount2(os.fsencode(target), flags), "umount2", target)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    check(_pivot_root(os.fsencode(new_root), os.fsencode(put_old)), "pivot_root", new_root)


def fsopen(fstype: str, flags: int = FSOPEN_CLOEXEC) -> int:
    """fsopen(2): a context in which a new file system is configured."""
    return check(_fsopen(fstype.encode(), flags), "fsopen", fstype)


def fsconfig_set_flag(context: int, key: str) -> None:
    """fsconfig(2), FSCONFIG_SET_FLAG."""
    check(_fsconfig(context, FSCONFIG_SET_FLAG, key.encode(), None, 0), "fsconfig", key)


def fsconfig_set_string(context: int, key: str, value: str) -> None:
    """fsconfig(2), FSCONFIG_SET_STRING; the kernel takes at most 255 bytes."""
    check(
        _fsconfig(context, FSCONFIG_SET_STRING, key.encode(), os.fsencode(value), 0),
        "fsconfig",
        f"{key}={value}",
    )


def fsconfig_create(context: int) -> None:
    """fsconfig(2), FSCONFIG_CMD_CREATE: make the superblock."""
    check(_fsconfig(context, FSCONFIG_CMD_CREATE, None, None, 0), "fsconfig", "create")


def fsmount(context: int, attributes: int = 0, flags: int = FSMOUNT_CLOEXEC) -> int:
    """fsmount(2): a detached mount of the configured file system; it goes away with its descriptor."""
    return check(_fsmount(context, flags, attributes), "fsmount")


def open_tree(directory: int, path: str, flags: int) -> int:
    """open_tree(2); with OPEN_TREE_CLONE a detached bind mount."""
    return check(_open_tree(directory, os.fsencode(path), flags | OPEN_TREE_CLOEXEC), "open_tree", path)


def move_mount(from_fd: int, from_path: str, to_fd: int, to_path: str, flags: int) -> None:
    """move_mount(2)."""
    result = _move_mount(from_fd, os.fsencode(from_path), to_fd, os.fsencode(to_path), flags)
    check(result, "move_mount", to_path or None)


def attach(detached: int, target: int) -> None:
    """Put a detached mount on the file or directory that the O_PATH descriptor target names."""
    move_mount(detached, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)


def mount_setattr(
    directory: int,
    path: str,
    *,
    flags: int = 0,
    attr_set: int = 0,
    attr_clr: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
) -> None:
    """mount_setattr(2); flags may hold AT_RECURSIVE, and AT_EMPTY_PATH is added for an empty path."""
    attributes = _MountAttr(attr_set, attr_clr, propagation, userns_fd)
    if not path:
        flags |= AT_EMPTY_PATH
    size = ctypes.sizeof(attributes)
    result = _mount_setattr(directory, os.fsencode(path), flags, ctypes.addressof(attributes), size)
    check(result, "mount_setattr", path or None)


def set_propagation(path: str, propagation: int, recursive: bool = True) -> None:
    """Set MS_PRIVATE, MS_SLAVE, MS_SHARED or MS_UNBINDABLE on the mount at path."""
    mount_setattr(AT_FDCWD, path, flags=AT_RECURSIVE if recursive else 0, propagation=propagation)


def openat2(directory: int, path: str | bytes, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2); the descriptor is close-on-exec.

    With RESOLVE_IN_ROOT the directory is the root for absolute paths, ".." and symbolic links.
    Raises EAGAIN when a rename raced with a ".." in a link: try again.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    result = _openat2(directory, os.fsencode(path), ctypes.addressof(how), ctypes.sizeof(how))
    return check(result, "openat2", os.fsdecode(path))
