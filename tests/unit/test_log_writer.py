"""The json-file format, and the journal that writes it exactly once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from seom.containers.journal import CHUNK_BYTES, Journal
from seom.containers.log_writer import PARTIAL_BYTES, LogWriter, escape, timestamp

NOW = 1_700_000_000_123_456_789


def entries(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def texts(path: Path) -> list[str]:
    return [entry["log"] for entry in entries(path)]


@pytest.mark.parametrize(
    "text",
    [b"plain", b'quo"te', b"back\\slash", b"<a & b>", b"\x00\x1b[0m\x7f\t\r", "säöü 섬 🏝".encode(), b""],
)
def test_every_text_comes_back_from_json(text: bytes) -> None:
    assert json.loads(b'"' + escape(text) + b'"') == text.decode()


def test_invalid_utf8_becomes_the_replacement_character() -> None:
    assert json.loads(b'"' + escape(b"a\xffb") + b'"') == "a�b"


def test_characters_that_are_special_in_html_are_escaped_as_docker_does() -> None:
    assert escape(b"<&>") == b"\\u003c\\u0026\\u003e"


def test_times_have_no_trailing_zeros() -> None:
    assert timestamp(NOW) == "2023-11-14T22:13:20.123456789Z"
    assert timestamp(1_700_000_000_500_000_000) == "2023-11-14T22:13:20.5Z"
    assert timestamp(1_700_000_000_000_000_000) == "2023-11-14T22:13:20Z"


def test_each_line_is_an_entry_with_stream_attributes_and_time(tmp_path: Path) -> None:
    writer = LogWriter(str(tmp_path / "log"), attrs=b'{"tag":"x"}')
    writer.write(writer.format(2, b'one\n"two"\n', NOW))
    assert (tmp_path / "log").read_bytes().splitlines()[1] == (
        b'{"log":"\\"two\\"\\n","stream":"stderr","attrs":{"tag":"x"},"time":"2023-11-14T22:13:20.123456789Z"}'
    )


class Pipes:
    """A journal fed by a test."""

    def __init__(self, directory: Path, **log: Any) -> None:
        self.directory = directory
        self.log = directory / "log"
        self.options = log
        self.source, self.feed = os.pipe()
        self.staging = os.pipe()
        os.set_blocking(self.source, False)
        self.journal = self.open()

    def open(self) -> Journal:
        writer = LogWriter(str(self.log), **self.options)
        self.journal = Journal(str(self.directory / "journal"), writer, self.staging)
        self.journal.recover()
        return self.journal

    def put(self, data: bytes, stream: int = 1) -> bytes:
        os.write(self.feed, data)
        passed = b""
        while len(passed) < len(data):
            passed += self.journal.pump(self.source, stream)
        return passed


def test_a_line_may_come_in_pieces_on_both_streams(tmp_path: Path) -> None:
    pipes = Pipes(tmp_path)
    assert pipes.put(b"ab") == b"ab"
    pipes.put(b"x", 2)
    pipes.put(b"c\nde")
    pipes.put(b"y\n", 2)
    assert texts(pipes.log) == ["abc\n", "xy\n"]
    pipes.journal.finish()
    assert texts(pipes.log) == ["abc\n", "xy\n", "de"]


def test_a_long_line_is_cut_every_16_kib(tmp_path: Path) -> None:
    pipes = Pipes(tmp_path)
    pipes.put(b"a" * 40_000)
    pipes.put(b"b\nshort\n")
    assert list(map(len, texts(pipes.log))) == [
        PARTIAL_BYTES,
        PARTIAL_BYTES,
        40_001 - 2 * PARTIAL_BYTES + 1,
        6,
    ]
    assert "".join(texts(pipes.log)) == "a" * 40_000 + "b\nshort\n"


def test_full_files_are_rotated_and_the_oldest_dropped(tmp_path: Path) -> None:
    pipes = Pipes(tmp_path, max_size_bytes=1000, max_files=3)
    pipes.put(b"".join(b"line %d\n" % number for number in range(100)))
    names = sorted(path.name for path in tmp_path.glob("log*"))
    assert names == ["log", "log.1", "log.2"]
    kept = texts(tmp_path / "log.2") + texts(tmp_path / "log.1") + texts(pipes.log)
    assert kept == [f"line {number}\n" for number in range(100 - len(kept), 100)]
    assert all(1000 <= (tmp_path / name).stat().st_size < 1100 for name in names[1:])


def test_a_single_file_is_started_anew_when_full(tmp_path: Path) -> None:
    pipes = Pipes(tmp_path, max_size_bytes=500)
    pipes.put(b"".join(b"line %d\n" % number for number in range(100)))
    assert texts(pipes.log)[-1] == "line 99\n"
    assert [path.name for path in tmp_path.glob("log*")] == ["log"]


class Killed(BaseException):
    """Stands for a SIGKILL at a named point."""


@pytest.mark.parametrize("point", ["_read_staged", "_log_chunk", "_commit", "write"])
@pytest.mark.parametrize("before", [True, False])
def test_a_kill_at_any_point_neither_loses_nor_doubles_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, before: bool
) -> None:
    pipes = Pipes(tmp_path, max_size_bytes=3000, max_files=100)
    owner = LogWriter if point == "write" else Journal
    original = getattr(owner, point)
    calls = 0

    def dying(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if before and calls % 5 == 0:
            raise Killed
        result = original(*arguments)
        if not before and calls % 5 == 0:
            raise Killed
        return result

    expected = [f"line {number} of many\n" for number in range(400)]
    for number in range(0, 400, 10):
        os.write(pipes.feed, "".join(expected[number : number + 10]).encode())
        monkeypatch.setattr(owner, point, dying)
        try:
            pipes.journal.pump(pipes.source, 1)
        except Killed:
            monkeypatch.setattr(owner, point, original)
            pipes.open()
    monkeypatch.setattr(owner, point, original)
    pipes.open()
    while True:
        try:
            pipes.journal.pump(pipes.source, 1)
        except BlockingIOError:
            break
    files = sorted(tmp_path.glob("log.*"), key=lambda path: -int(path.suffix[1:]))
    assert [text for path in [*files, pipes.log] for text in texts(path)] == expected
    assert calls >= 5


def test_a_full_disk_leaves_a_gap_and_the_output_flows_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipes = Pipes(tmp_path)
    pipes.put(b"first\n")

    def full(self: LogWriter, data: bytes) -> None:
        os.write(self._descriptor, data[:10])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(LogWriter, "write", full)
        assert pipes.put(b"lost\n") == b"lost\n"
    pipes.put(b"third\n")
    assert texts(pipes.log) == ["first\n", "third\n"]


def test_a_chunk_is_never_larger_than_the_staging_pipe() -> None:
    assert CHUNK_BYTES <= 65536
