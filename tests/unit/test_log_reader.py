"""Reading json-file logs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seom.containers.log_reader import LogQuery, LogReader, parse_time_ns


def write_log(path: Path, first: int, count: int, stream: str = "stdout") -> None:
    with path.open("a") as file:
        for number in range(first, first + count):
            time = f"2026-01-01T00:00:{number:02d}.5Z"
            file.write(json.dumps({"log": f"line {number}\n", "stream": stream, "time": time}) + "\n")


def read(path: Path, **query: object) -> str:
    reader = LogReader(path, LogQuery(framed=False, **query))  # type: ignore[arg-type]
    try:
        return b"".join(reader.history()).decode()
    finally:
        reader.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Two rotated files and a current one, ten lines each."""
    path = tmp_path / "x-json.log"
    write_log(path.with_name(f"{path.name}.2"), 0, 10)
    write_log(path.with_name(f"{path.name}.1"), 10, 10)
    write_log(path, 20, 10)
    return path


def test_everything_is_read_oldest_first(log: Path) -> None:
    assert read(log).splitlines() == [f"line {number}" for number in range(30)]


@pytest.mark.parametrize("count", [0, 1, 10, 15, 30, 99])
def test_tail_counts_across_rotated_files(log: Path, count: int) -> None:
    assert read(log, tail=count).splitlines() == [f"line {number}" for number in range(30)][-count or 30 :]


def test_since_and_until_bound_the_time(log: Path) -> None:
    since, until = parse_time_ns("2026-01-01T00:00:05.5Z"), parse_time_ns("2026-01-01T00:00:07.5Z")
    assert read(log, since_ns=since, until_ns=until).splitlines() == ["line 5", "line 6", "line 7"]


def test_frames_carry_stream_and_length(tmp_path: Path) -> None:
    path = tmp_path / "x-json.log"
    write_log(path, 1, 1, "stderr")
    assert b"".join(LogReader(path, LogQuery()).history()) == b"\2\0\0\0\0\0\0\x07line 1\n"


def test_streams_can_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x-json.log"
    write_log(path, 1, 1, "stderr")
    write_log(path, 2, 1, "stdout")
    assert read(path, stderr=False) == "line 2\n"


def test_a_damaged_line_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "x-json.log"
    write_log(path, 1, 1)
    with path.open("a") as file:
        file.write('{"log":"half\n')
    write_log(path, 2, 1)
    assert read(path) == "line 1\nline 2\n"


@pytest.mark.parametrize("tail", [-1, 2])
def test_what_is_appended_later_follows_also_after_a_rotation(tmp_path: Path, tail: int) -> None:
    path = tmp_path / "x-json.log"
    write_log(path, 1, 2)
    reader = LogReader(path, LogQuery(framed=False, tail=tail))
    assert b"".join(reader.history()) == b"line 1\nline 2\n"
    assert b"".join(reader.more()) == b""
    write_log(path, 3, 1)
    path.rename(path.with_name(f"{path.name}.1"))
    write_log(path, 4, 1)
    assert b"".join(reader.more()) == b"line 3\nline 4\n"
    reader.close()


def test_timestamps_and_details_come_first(tmp_path: Path) -> None:
    path = tmp_path / "x-json.log"
    entry = {"log": "x\n", "stream": "stdout", "time": "2026-01-01T00:00:00Z", "attrs": {"a": "b"}}
    path.write_text(json.dumps(entry) + "\n")
    assert read(path, timestamps=True) == "2026-01-01T00:00:00Z x\n"
    assert read(path, details=True) == "a=b x\n"
