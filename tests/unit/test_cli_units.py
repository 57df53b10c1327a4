"""Sizes, durations, times, ports and JSON as the command line reads and shows them."""

from __future__ import annotations

import json
import time

import pytest

from seom.cli import jsontext, timestamps, units
from seom.cli.errors import CommandError
from seom.cli.ports import describe_ports


@pytest.mark.parametrize(
    ("size", "three", "four"),
    [(0, "0B", "0B"), (999, "999B", "999B"), (1985657, "1.99MB", "1.986MB"), (4.26e9, "4.26GB", "4.26GB")],
)
def test_sizes_in_powers_of_1000(size: float, three: str, four: str) -> None:
    assert units.decimal_size(size, 3) == three
    assert units.decimal_size(size) == four


def test_sizes_in_powers_of_1024() -> None:
    assert units.binary_size(348160) == "340KiB"
    assert units.binary_size(8 * 1024**3) == "8GiB"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("512", 512),
        ("1b", 1),
        ("64k", 65536),
        ("64m", 67108864),
        ("1.5GiB", 1610612736),
        ("-1", -1),
        ("2 MB", 2097152),
    ],
)
def test_sizes_are_read_with_their_suffixes(text: str, expected: int) -> None:
    assert units.parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "m", "1x", "1..2", "-5", "nan", "0x10"])
def test_wrong_sizes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid size"):
        units.parse_bytes(text)


def test_durations() -> None:
    assert units.parse_duration("1h30m") == 5_400_000_000_000
    assert units.parse_duration("1.5s") == 1_500_000_000
    assert units.parse_duration("-250ms") == -250_000_000
    assert units.parse_duration("0") == 0
    for wrong in ("", "5", "x", "1x", "1.2.3s", "-"):
        with pytest.raises(ValueError, match="time:"):
            units.parse_duration(wrong)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (600, "10 minutes"),
        (3600, "About an hour"),
        (47 * 3600, "47 hours"),
        (3 * 86400, "3 days"),
        (15 * 86400, "2 weeks"),
        (70 * 86400, "2 months"),
        (800 * 86400, "2 years"),
    ],
)
def test_spans_of_time_are_rough(seconds: float, text: str) -> None:
    assert units.human_duration(seconds) == text


def test_timestamps_of_the_api() -> None:
    assert timestamps.parse_timestamp("1970-01-01T00:00:00Z") == 0
    assert timestamps.parse_timestamp("2024-02-29T12:00:00.5Z") == 1709208000.5
    assert timestamps.parse_timestamp("2024-02-29T14:00:00+02:00") == 1709208000
    assert timestamps.parse_timestamp("0001-01-01T00:00:00Z") == -62135596800


def test_typed_times_are_durations_dates_or_seconds() -> None:
    assert abs(float(timestamps.to_api("10m")) - (time.time() - 600)) < 5
    assert timestamps.to_api("1700000000") == "1700000000"
    assert float(timestamps.to_api("2024-02-29T12:00:00Z")) == 1709208000
    assert float(timestamps.to_api("2024-02-29T12:00")) == time.mktime((2024, 2, 29, 12, 0, 0, 0, 0, -1))
    assert timestamps.to_api("") == ""
    with pytest.raises(CommandError, match="cannot read the time"):
        timestamps.to_api("yesterday")


def test_ports_join_into_ranges() -> None:
    ports = [
        {"PrivatePort": 80, "Type": "tcp"},
        {"PrivatePort": 81, "Type": "tcp"},
        {"PrivatePort": 9000, "PublicPort": 9000, "Type": "tcp", "IP": "0.0.0.0"},
        {"PrivatePort": 9001, "PublicPort": 9001, "Type": "tcp", "IP": "0.0.0.0"},
        {"PrivatePort": 53, "PublicPort": 5353, "Type": "udp", "IP": "::"},
    ]
    assert describe_ports(ports) == "80-81/tcp, 0.0.0.0:9000-9001->9000-9001/tcp, [::]:5353->53/udp"
    assert describe_ports([]) == ""


@pytest.mark.parametrize(
    "value",
    [{}, [], None, True, 0, -1.5, 'a"b\\\n\u0001é', {"a": [1, {"b": None}], "c": {}}, [[], [[]]]],
)
@pytest.mark.parametrize("indent", [0, 4])
def test_json_survives_a_round_trip(value: object, indent: int) -> None:
    text = jsontext.encode(value, indent=indent)
    assert json.loads(text) == value
    assert jsontext.decode(text) == value
    assert text == json.dumps(
        value, indent=indent or None, separators=(",", ": " if indent else ":"), ensure_ascii=False
    )


@pytest.mark.parametrize("text", ["", "{", "nope", '{"a":1} x', '{"a" 1}', "[1,]"])
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        jsontext.decode(text)
