"""Writing to the user: bytes and text to stdout and stderr, without buffering surprises."""

from __future__ import annotations

import os


def write_bytes(data: bytes | memoryview, descriptor: int = 1) -> None:
    """All of data to a descriptor."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            _wait_writable(descriptor)


def _wait_writable(descriptor: int) -> None:
    import select

    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    poll.poll()


def write(text: str) -> None:
    """Text to stdout."""
    write_bytes(text.encode("utf-8", "surrogateescape"))


def line(text: str) -> None:
    """One line to stdout."""
    write(text + "\n")


def error(text: str) -> None:
    """One line to stderr."""
    write_bytes((text + "\n").encode("utf-8", "surrogateescape"), 2)


def confirm(question: str) -> bool:
    """Ask on stdout, read one line of stdin; only y and yes mean yes."""
    write(question + " [y/N] ")
    answer = b""
    while not answer.endswith(b"\n") and (letter := os.read(0, 1)):
        answer += letter
    return answer.strip().lower() in (b"y", b"yes")
