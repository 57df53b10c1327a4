"""inotify(7): waiting until a file changes."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from ctypes import c_char_p, c_int, c_uint32

from seom.linux.libc import check, function

IN_MODIFY = 0x2
IN_ATTRIB = 0x4
IN_CLOSE_WRITE = 0x8
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_Q_OVERFLOW = 0x4000
IN_ONLYDIR = 0x1000000

_inotify_init1 = function("inotify_init1", c_int)
_inotify_add_watch = function("inotify_add_watch", c_int, c_char_p, c_uint32)
_HEADER = struct.Struct("iIII")


def inotify_init1(flags: int = os.O_NONBLOCK | os.O_CLOEXEC) -> int:
    """inotify_init1(2)."""
    return check(_inotify_init1(flags), "inotify_init1")


def inotify_add_watch(descriptor: int, path: str, mask: int) -> int:
    """inotify_add_watch(2): the watch's number."""
    return check(_inotify_add_watch(descriptor, os.fsencode(path), mask), "inotify_add_watch", path)


def read_events(descriptor: int) -> Iterator[tuple[int, int, str]]:
    """The waiting events as (watch, mask, name); raises BlockingIOError when there are none."""
    data = os.read(descriptor, 65536)
    offset = 0
    while offset < len(data):
        watch, mask, _, length = _HEADER.unpack_from(data, offset)
        offset += _HEADER.size
        name = data[offset : offset + length].rstrip(b"\0")
        offset += length
        yield watch, mask, os.fsdecode(name)
