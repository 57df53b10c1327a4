"""Small vocabularies: signals, detach keys, durations, names, restart policies."""

from __future__ import annotations

import signal

import pytest

from seom.api.detach_keys import DEFAULT, parse_detach_keys
from seom.api.durations import ago
from seom.containers.config import RestartPolicy
from seom.engine.container import State, rfc3339
from seom.engine.names import is_valid_name, new_id, random_name
from seom.engine.restart import RestartDelay, wants_restart
from seom.engine.signals import parse_signal
from seom.errors import InvalidParameter


@pytest.mark.parametrize("text", ["15", "TERM", "SIGTERM", "sigterm"])
def test_a_signal_has_many_names(text: str) -> None:
    assert parse_signal(text) == signal.SIGTERM


def test_realtime_signals_count_from_their_ends() -> None:
    assert parse_signal("SIGRTMIN+3") == signal.SIGRTMIN + 3
    assert parse_signal("RTMAX-1") == signal.SIGRTMAX - 1


@pytest.mark.parametrize("text", ["0", "NOPE", "99", "", "RTMIN*1"])
def test_unknown_signals_are_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid signal"):
        parse_signal(text)


def test_detach_keys() -> None:
    assert parse_detach_keys("") == DEFAULT
    assert parse_detach_keys("ctrl-a,d") == b"\x01d"
    assert parse_detach_keys("ctrl-@,ctrl-[") == b"\x00\x1b"
    with pytest.raises(InvalidParameter, match="ctrl-1"):
        parse_detach_keys("ctrl-1")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (7200, "2 hours"),
        (3 * 86400, "3 days"),
        (20 * 86400, "2 weeks"),
        (100 * 86400, "3 months"),
        (800 * 86400, "2 years"),
    ],
)
def test_durations_in_words(seconds: int, text: str) -> None:
    assert ago(1, seconds * 1_000_000_000 + 1) == text


def test_times_have_nanoseconds_without_trailing_zeros() -> None:
    assert rfc3339(0) == "0001-01-01T00:00:00Z"
    assert rfc3339(1_700_000_000_500_000_000) == "2023-11-14T22:13:20.5Z"


def test_names_and_ids() -> None:
    assert is_valid_name(random_name())
    assert is_valid_name("/web-1.a_b")
    assert not is_valid_name("-web")
    assert not is_valid_name("a")
    assert len(new_id()) == 64


def test_restart_policies() -> None:
    failed, succeeded = State(exit_code=1), State(exit_code=0)
    assert wants_restart(RestartPolicy("always"), succeeded)
    assert not wants_restart(RestartPolicy("no"), failed)
    assert wants_restart(RestartPolicy("on-failure"), failed)
    assert not wants_restart(RestartPolicy("on-failure"), succeeded)
    assert not wants_restart(RestartPolicy("on-failure", 2), State(exit_code=1, restart_count=2))
    assert not wants_restart(RestartPolicy("always"), State(stopped_by_user=True))


def test_the_delay_doubles_and_a_long_run_sets_it_back() -> None:
    delay = RestartDelay()
    assert [delay.next_s(0) for _ in range(3)] == [0.1, 0.2, 0.4]
    assert delay.next_s(11) == 0.1
