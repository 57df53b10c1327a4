"""What daemon, spawner, starter and monitor say to one another: JSON in SEQPACKET messages, with descriptors.

    daemon  -> starter   Start                      + [control, ...]   "starts": read by any idle starter
    daemon  -> exec server   Exec                   + [control, ...]   "execs": read by any exec server
    daemon  -> spawner   Adopt                      + [control, ...]   "adoptions"
    starter -> monitor   Adopt                      + [control, ...]
    starter -> daemon    Started | Failed           + [pidfd, ...]     on "control", a socket pair of each
    monitor -> daemon    Started, Watched, StdinClosed, Exited         workload's own
    daemon  -> monitor   Attach                     + [connection]
                         Resize | Reopen

Descriptors are named by the message's own fields, in the order in which they are listed there.
A message longer than a datagram may be travels in a memfd, which is then the first descriptor.
"""

from __future__ import annotations

import os
import socket

import msgspec

from seom.oci.runtime_spec import Process, RuntimeSpec

LARGEST_DATAGRAM = 100_000
_MOST_DESCRIPTORS = 253
_IN_MEMFD = b"\0"


class StreamOptions(msgspec.Struct, frozen=True):
    """How a workload's standard streams are made; rows and columns of 0 mean: as the kernel does."""

    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    rows: int = 0
    columns: int = 0


class Log(msgspec.Struct, frozen=True):
    """Where output is logged: driver "json-file", "local" or "none"; sizes below 0 mean no limit."""

    driver: str
    path: str
    max_size_bytes: int = -1
    max_files: int = 1
    extra: dict[str, str] = {}


class Overlay(msgspec.Struct, frozen=True):
    """An overlay root: lowers topmost first."""

    lowers: list[str]
    upper: str
    work: str


class Attach(msgspec.Struct, frozen=True, tag=True):
    """A client's connection to write output to and read input from; one descriptor."""

    stdin: bool
    stdout: bool
    stderr: bool
    framed: bool
    detach_keys: bytes = b""
    early_input: bytes = b""


class Start(msgspec.Struct, frozen=True, tag=True):
    """Start a container. Descriptors: control, the network namespace if has_network, attachments."""

    id: str
    directory: str
    spec: RuntimeSpec
    rootfs: Overlay | None
    cgroup: str
    streams: StreamOptions
    log: Log | None
    init: bool
    has_network: bool
    seccomp: bytes = b""
    attachments: list[Attach] = []


class Exec(msgspec.Struct, frozen=True, tag=True):
    """Run one more process in a container. Descriptors: control, the pidfd of its init, attachments."""

    id: str
    pid: int
    process: Process
    cgroup: str
    streams: StreamOptions
    seccomp: bytes = b""
    attachments: list[Attach] = []


class Watch(msgspec.Struct, frozen=True):
    """How to watch over a workload: all that its monitor was told, and its replacement must know.

    directory is "" for an exec, which keeps no files; cgroup is the group to remove at the end, ""
    for none. private_pids: the kernel ends its other processes together with the first.
    """

    streams: StreamOptions
    log: Log | None = None
    directory: str = ""
    cgroup: str = ""
    private_pids: bool = True


class Adopt(msgspec.Struct, frozen=True, tag=True):
    """Watch over a workload that runs already: just started, or left by a monitor that died.

    Descriptors: control, the workload's pidfd, those of held (which a replacement of the monitor
    would need again), those of kept (which the monitor only keeps), attachments.
    """

    id: str
    pid: int
    started_at_ns: int
    watch: Watch
    held: list[str] = []
    kept: list[str] = []
    attachments: list[Attach] = []


Order = Start | Exec


class Started(msgspec.Struct, frozen=True, tag=True):
    """The program runs. Descriptors: its pidfd, then those named in held.

    monitor_pid is 0 as long as there is no monitor: Watched follows.
    """

    pid: int
    started_at_ns: int
    monitor_pid: int
    watch: Watch
    held: list[str] = []


class Watched(msgspec.Struct, frozen=True, tag=True):
    """The workload's monitor is at work."""

    monitor_pid: int


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The program could not be started; stage says at which step."""

    stage: str
    errno: int
    message: str


class StdinClosed(msgspec.Struct, frozen=True, tag=True):
    """Input has ended: whoever keeps a copy of the writing end closes it."""


class Exited(msgspec.Struct, frozen=True, tag=True):
    """The workload has ended and its output is logged; code is 128 + n for signal n."""

    code: int
    finished_at_ns: int
    oom_killed: bool


class Resize(msgspec.Struct, frozen=True, tag=True):
    """A new terminal size in characters."""

    rows: int
    columns: int


class Reopen(msgspec.Struct, frozen=True, tag=True):
    """Open the log file again: somebody moved it."""


Report = Started | Watched | Failed | StdinClosed | Exited
Request = Attach | Resize | Reopen

_encode = msgspec.json.Encoder().encode
decode_start = msgspec.json.Decoder(Start).decode
decode_exec = msgspec.json.Decoder(Exec).decode
decode_adopt = msgspec.json.Decoder(Adopt).decode
decode_report = msgspec.json.Decoder(Report).decode
decode_request = msgspec.json.Decoder(Request).decode
decode_exited = msgspec.json.Decoder(Exited).decode
encode = _encode


def encode_attributes(attributes: dict[str, str]) -> bytes:
    """A JSON object of strings."""
    return _encode(attributes)


def send(
    channel: socket.socket, message: Order | Adopt | Report | Request, descriptors: list[int] | None = None
) -> None:
    """Send one message with its descriptors; the caller keeps and closes its own copies.

    Raises OSError (EPIPE when the other side is gone, EAGAIN on a full non-blocking socket).
    """
    data = _encode(message)
    descriptors = descriptors or []
    if len(data) <= LARGEST_DATAGRAM:
        socket.send_fds(channel, [data], descriptors, socket.MSG_NOSIGNAL)
        return
    with open(os.memfd_create("message", os.MFD_CLOEXEC), "w+b", buffering=0) as body:
        body.write(data)
        socket.send_fds(channel, [_IN_MEMFD], [body.fileno(), *descriptors], socket.MSG_NOSIGNAL)


def receive(channel: socket.socket, flags: int = 0) -> tuple[bytes, list[int]]:
    """Receive one message's bytes and descriptors (close-on-exec); (b"", []) at the end.

    Raises OSError (EAGAIN on a non-blocking socket without a message).
    """
    data, descriptors, _, _ = socket.recv_fds(
        channel, LARGEST_DATAGRAM, _MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC | flags
    )
    if data == _IN_MEMFD and descriptors:
        body = descriptors.pop(0)
        try:
            data = os.pread(body, os.fstat(body).st_size, 0)
        finally:
            os.close(body)
    return data, descriptors
