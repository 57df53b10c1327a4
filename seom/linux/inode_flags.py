"""Inode flags: hints and restrictions that file systems keep with a file. See ioctl_iflags(2)."""

from __future__ import annotations

import fcntl
import struct

FS_IOC_GETFLAGS = 0x80086601
FS_IOC_SETFLAGS = 0x40086602

FS_TOPDIR_FL = 0x00020000


def get_inode_flags(descriptor: int) -> int:
    """ioctl(FS_IOC_GETFLAGS); raises OSError (ENOTTY where the file system has none)."""
    answer = fcntl.ioctl(descriptor, FS_IOC_GETFLAGS, bytes(8))
    return int(struct.unpack_from("@I", answer)[0])


def set_inode_flags(descriptor: int, flags: int) -> None:
    """ioctl(FS_IOC_SETFLAGS); raises OSError."""
    fcntl.ioctl(descriptor, FS_IOC_SETFLAGS, struct.pack("@Q", flags))
