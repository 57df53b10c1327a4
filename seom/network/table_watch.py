"""Noticing that somebody else deleted Seom's nftables table.

`nft flush ruleset` deletes the tables of everybody, and reloading a host's firewall (Debian's
nftables.service does) begins with it: published ports and NAT would be gone until the daemon's next start.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator

from seom.linux.netlink import attributes

_NETLINK_NETFILTER, _GROUP_NFTABLES = 12, 7
_NFT_MSG_DELTABLE = (10 << 8) | 2
_NFTA_TABLE_NAME = 1
_HEADER = struct.Struct("=IHHII")
_NFGENMSG_BYTES = 4
_RECEIVE_BYTES = 1 << 18


class TableWatch:
    """Calls back, on the event loop, after a table of this name was deleted, by whomever."""

    def __init__(self, table: str, deleted: Callable[[], None]) -> None:
        self._table = table.encode()
        self._deleted = deleted
        self._socket = socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
            _NETLINK_NETFILTER,
        )
        self._socket.bind((0, 1 << (_GROUP_NFTABLES - 1)))
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._read)

    def close(self) -> None:
        """Stop watching."""
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    def _read(self) -> None:
        try:
            while True:
                data = self._socket.recv(_RECEIVE_BYTES)
                if any(name == self._table for name in _deleted_tables(data)):
                    self._deleted()
        except BlockingIOError:
            return
        except OSError:
            # Too many changes at once to be told of each: look.
            self._deleted()


def _deleted_tables(data: bytes) -> Iterator[bytes]:
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, offset)
        if kind == _NFT_MSG_DELTABLE:
            body = data[offset + _HEADER.size + _NFGENMSG_BYTES : offset + length]
            yield attributes(body).get(_NFTA_TABLE_NAME, b"").rstrip(b"\0")
        offset += (length + 3) & ~3
