"""Elements of nftables maps by raw nfnetlink: a tenth of what a command through libnftables costs.

Elements added or deleted in one call are one transaction. In a concatenated key or value each part
is padded to four bytes. See linux/netfilter/nf_tables.h and nfnetlink.h.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from seom.linux.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, NLMSG_ERROR, attribute

_NETLINK_NETFILTER = 12
_SUBSYSTEM, _INET = 10, 1
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEWSETELEM, _DELSETELEM = (_SUBSYSTEM << 8) | 12, (_SUBSYSTEM << 8) | 14
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS, _LIST_ELEM = 1, 2, 3, 1
_ELEM_KEY, _ELEM_DATA, _DATA_VALUE = 1, 2, 1
_NESTED = 0x8000
_HEADER = struct.Struct("=IHHII")
_RECEIVE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class MapElement:
    """An element of a map in a table of the family inet."""

    map: str
    key: bytes
    value: bytes


def concatenate(*parts: bytes) -> bytes:
    """A concatenated key or value."""
    return b"".join(part + b"\0" * (-len(part) % 4) for part in parts)


class NftElements:
    """A connection to one table, in the network namespace of the thread that makes it."""

    def __init__(self, table: str) -> None:
        self._table = attribute(_LIST_TABLE, table.encode() + b"\0")
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER
        )
        self._sequence = 0

    def add(self, elements: Sequence[MapElement]) -> None:
        """Add all or none; raises FileExistsError when a key leads elsewhere, OSError."""
        self._transact(_NEWSETELEM, NLM_F_CREATE, (self._list(each, with_value=True) for each in elements))

    def delete(self, elements: Sequence[MapElement]) -> None:
        """Delete all or none; raises FileNotFoundError when a key is not there, OSError."""
        self._transact(_DELSETELEM, 0, (self._list(each, with_value=False) for each in elements))

    def close(self) -> None:
        """Close the connection; waits 20 ms when something was deleted just before."""
        self._socket.close()

    def _list(self, element: MapElement, with_value: bool) -> bytes:
        parts = _data(_ELEM_KEY, element.key) + (_data(_ELEM_DATA, element.value) if with_value else b"")
        return (
            struct.pack(">BBH", _INET, 0, 0)
            + self._table
            + attribute(_LIST_SET, element.map.encode() + b"\0")
            + attribute(_LIST_ELEMENTS | _NESTED, attribute(_LIST_ELEM | _NESTED, parts))
        )

    def _transact(self, kind: int, flags: int, bodies: Iterable[bytes]) -> None:
        batch = struct.pack(">BBH", 0, 0, _SUBSYSTEM)
        first = self._sequence + 2
        packets = [self._pack(_BATCH_BEGIN, 0, batch)]
        packets += [self._pack(kind, flags | NLM_F_ACK, body) for body in bodies]
        waiting = len(packets) - 1
        packets.append(self._pack(_BATCH_END, 0, batch))
        self._socket.send(b"".join(packets))
        code = 0
        while waiting:
            for sequence, error in self._acknowledgements():
                if sequence >= first - 1:
                    # A refused batch may be answered once for the whole.
                    waiting = 0 if sequence == first - 1 else waiting - 1
                    code = code or error
        if code:
            raise OSError(code, f"nftables: {os.strerror(code)}")

    def _acknowledgements(self) -> Iterable[tuple[int, int]]:
        data = self._socket.recv(_RECEIVE_BYTES)
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, _, sequence, _ = _HEADER.unpack_from(data, offset)
            if kind == NLMSG_ERROR:
                yield sequence, -struct.unpack_from("=i", data, offset + _HEADER.size)[0]
            offset += (length + 3) & ~3

    def _pack(self, kind: int, flags: int, body: bytes) -> bytes:
        self._sequence += 1
        return _HEADER.pack(_HEADER.size + len(body), kind, flags | NLM_F_REQUEST, self._sequence, 0) + body


def _data(kind: int, value: bytes) -> bytes:
    return attribute(kind | _NESTED, attribute(_DATA_VALUE, value))
