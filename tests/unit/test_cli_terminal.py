"""Detach keys and the frames of multiplexed output."""

from __future__ import annotations

import pytest

from seom.cli.errors import CommandError
from seom.cli.streams import Demultiplexer
from seom.cli.terminal import DetachFilter, parse_detach_keys


def test_detach_keys_are_read_as_docker_writes_them() -> None:
    assert parse_detach_keys("ctrl-p,ctrl-q") == b"\x10\x11"
    assert parse_detach_keys("ctrl-@,a,ctrl-]") == b"\x00a\x1d"
    with pytest.raises(CommandError, match="invalid detach keys"):
        parse_detach_keys("ctrl-?,b")


@pytest.mark.parametrize(
    ("typed", "passed", "detached"),
    [
        ([b"abc"], b"abc", False),
        ([b"a\x10\x11b"], b"a", True),
        ([b"a\x10", b"\x11"], b"a", True),
        ([b"\x10", b"x"], b"\x10x", False),
        ([b"\x10\x10\x11"], b"\x10", True),
        ([b"\x11\x10"], b"\x11", False),
    ],
)
def test_only_the_whole_sequence_detaches(typed: list[bytes], passed: bytes, detached: bool) -> None:
    keys = DetachFilter(b"\x10\x11")
    results = [keys.feed(piece) for piece in typed]
    assert b"".join(text for text, _ in results) == passed
    assert results[-1][1] is detached


def test_frames_are_split_however_they_arrive(capfd: pytest.CaptureFixture[str]) -> None:
    stream = b"".join(
        bytes([number, 0, 0, 0]) + len(text).to_bytes(4, "big") + text
        for number, text in ((1, b"out"), (2, b"err"), (1, b""), (1, b" more"))
    )
    for size in (1, 3, 100):
        frames = Demultiplexer()
        for start in range(0, len(stream), size):
            frames.feed(stream[start : start + size])
        assert capfd.readouterr() == ("out more", "err")
