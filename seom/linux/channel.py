"""A pair of connected sockets for messages with descriptors, see unix(7) and cmsg(3).

The standard socket module does the same and takes 3 ms to load, in programs that a container's
start waits for.
"""

from __future__ import annotations

import _socket
import struct

LARGEST_MESSAGE = 65536
_INT = struct.calcsize("i")


def channel_pair() -> tuple[_socket.socket, _socket.socket]:
    """Two ends of a SOCK_SEQPACKET connection, close-on-exec."""
    kind = _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
    return _socket.socketpair(_socket.AF_UNIX, kind)


def send_descriptor(channel: _socket.socket, data: bytes, descriptor: int) -> None:
    """Send a message with one descriptor; the caller keeps its own copy."""
    rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", descriptor))
    channel.sendmsg([data], [rights])


def receive(channel: _socket.socket) -> tuple[bytes, int | None]:
    """The next message and the descriptor that came with it (close-on-exec); b"" at the end."""
    space = _socket.CMSG_LEN(_INT)
    data, ancillary, _, _ = channel.recvmsg(LARGEST_MESSAGE, space, _socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS) and len(content) >= _INT:
            (descriptor,) = struct.unpack_from("i", content)
            return data, descriptor
    return data, None
