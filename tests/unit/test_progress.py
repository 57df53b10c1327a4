"""Progress lines as docker clients expect them."""

from __future__ import annotations

import json

import pytest

from seom.images.progress import Message, PushResult, advance, encode, failure, human_size, status, step


def test_a_line_holds_only_what_it_says() -> None:
    assert json.loads(encode(status("Pulling from library/x", "latest"))) == {
        "status": "Pulling from library/x",
        "id": "latest",
    }
    assert json.loads(encode(step("abc", "Waiting"))) == {
        "status": "Waiting",
        "progressDetail": {},
        "id": "abc",
    }


def test_numbers_come_with_the_bar_that_clients_may_print() -> None:
    line = json.loads(encode(advance("abc", "Downloading", 500_000, 1_000_000)))
    assert line["progressDetail"] == {"current": 500_000, "total": 1_000_000}
    assert line["progress"] == "[" + "=" * 25 + ">" + " " * 25 + "]    500kB/1MB"


def test_an_error_ends_the_stream_in_both_of_dockers_forms() -> None:
    assert json.loads(encode(failure("it broke"))) == {
        "errorDetail": {"message": "it broke"},
        "error": "it broke",
    }


def test_the_result_of_a_push_is_for_programs() -> None:
    line = json.loads(encode(Message(aux=PushResult("latest", "sha256:0", 528))))
    assert line == {"aux": {"Tag": "latest", "Digest": "sha256:0", "Size": 528}}


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (999, "999B"), (1536, "1.536kB"), (3_370_706, "3.371MB"), (10**16, "10PB"), (5e9, "5GB")],
)
def test_sizes_are_decimal_with_four_digits(size: float, text: str) -> None:
    assert human_size(size) == text
