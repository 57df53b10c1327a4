"""Connection tracking: forgetting flows, so that the next packet meets the present NAT rules.

A flow is translated as its first packet was. That is right for TCP, whose connections end; a flow
of UDP datagrams would go on to a container that is gone. See linux/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import contextlib
import socket
import struct

from seom.linux.netlink import NLM_F_ACK, NLM_F_REQUEST, attribute

_NETLINK_NETFILTER = 12
_IPCTNL_MSG_CT_DELETE = (1 << 8) | 2
_CTA_TUPLE_ORIG, _CTA_FILTER = 1, 25
_CTA_TUPLE_PROTO = 2
_CTA_PROTO_NUM, _CTA_PROTO_DST_PORT = 1, 3
_CTA_FILTER_ORIG_FLAGS = 1
_FILTER_PROTO_NUM, _FILTER_DST_PORT = 1 << 3, 1 << 5
_NESTED = 0x8000
_RECEIVE_BYTES = 4096


def forget_flows(family: int, protocol: int, port: int) -> None:
    """Forget every flow of an IP protocol whose first packet was sent to a port.

    family is AF_INET or AF_INET6. Raises OSError; on kernels that cannot select flows this way,
    nothing is forgotten.
    """
    proto = attribute(_CTA_PROTO_NUM, bytes([protocol])) + attribute(
        _CTA_PROTO_DST_PORT, struct.pack(">H", port)
    )
    flags = struct.pack("=I", _FILTER_PROTO_NUM | _FILTER_DST_PORT)
    body = (
        struct.pack(">BBH", family, 0, 0)
        + attribute(_CTA_TUPLE_ORIG | _NESTED, attribute(_CTA_TUPLE_PROTO | _NESTED, proto))
        + attribute(_CTA_FILTER | _NESTED, attribute(_CTA_FILTER_ORIG_FLAGS, flags))
    )
    header = struct.pack("=IHHII", 16 + len(body), _IPCTNL_MSG_CT_DELETE, NLM_F_REQUEST | NLM_F_ACK, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as nl:
        nl.send(header + body)
        code = -struct.unpack_from("=i", nl.recv(_RECEIVE_BYTES), 16)[0]
    if code:
        with contextlib.suppress(FileNotFoundError):
            raise OSError(code, f"cannot forget flows to port {port}")
