"""The event bus: order, history, filters, and the shape on the wire."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from seom.engine.events import HISTORY, EventBus
from seom.engine.filters import Filters, parse_filters
from seom.engine.timestamps import format_timestamp, parse_timestamp
from seom.errors import InvalidParameter

ID = "4c01db0b339c" + "0" * 52


def test_a_container_event_carries_the_fields_of_old_clients() -> None:
    event = EventBus().publish("container", "start", ID, {"image": "busybox", "name": "web"})
    document = msgspec.json.decode(msgspec.json.encode(event))
    assert document["status"] == "start"
    assert document["id"] == ID
    assert document["from"] == "busybox"
    assert document["Type"] == "container"
    assert document["Action"] == "start"
    assert document["Actor"] == {"ID": ID, "Attributes": {"image": "busybox", "name": "web"}}
    assert document["scope"] == "local"
    assert document["timeNano"] // 10**9 == document["time"]


def test_a_network_event_has_no_legacy_fields() -> None:
    event = EventBus().publish("network", "create", ID, {"name": "lan", "type": "bridge"})
    assert {"status", "id", "from"}.isdisjoint(msgspec.json.decode(msgspec.json.encode(event)))


def test_times_increase_strictly() -> None:
    bus = EventBus()
    times = [bus.publish("image", "tag", ID, {}).time_ns for _ in range(100)]
    assert times == sorted(set(times))


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        ({}, True),
        ({"type": ["container"]}, True),
        ({"type": ["network"]}, False),
        ({"type": ["network", "container"]}, True),
        ({"container": ["we"]}, True),
        ({"container": [ID[:12]]}, True),
        ({"container": ["eb"]}, False),
        ({"image": ["busybox"]}, True),
        ({"image": ["busybox:1.36"]}, True),
        ({"image": ["debian"]}, False),
        ({"event": ["health_status"]}, True),
        ({"event": ["health_status: healthy"]}, True),
        ({"event": ["health_status: unhealthy"]}, False),
        ({"event": ["health"]}, False),
        ({"label": ["tier=front"]}, True),
        ({"label": ["tier", "zone"]}, False),
        ({"scope": ["local"]}, True),
        ({"scope": ["swarm"]}, False),
        ({"container": ["web"], "type": ["image"]}, False),
    ],
)
def test_filters_select_events(filters: dict[str, list[str]], passes: bool) -> None:
    bus = EventBus()
    bus.publish(
        "container",
        "health_status: healthy",
        ID,
        {"image": "busybox:1.36", "name": "web", "tier": "front"},
    )
    assert bool(bus.past(0, None, Filters(filters))) is passes


def test_history_is_bounded_and_keeps_the_newest() -> None:
    bus = EventBus()
    for number in range(HISTORY + 10):
        bus.publish("image", "tag", str(number), {})
    past = bus.past(0, None)
    assert len(past) == HISTORY
    assert past[-1].actor.id == str(HISTORY + 9)


def test_past_is_limited_by_since_and_until() -> None:
    bus = EventBus()
    first, second, third = (bus.publish("image", "tag", str(n), {}) for n in range(3))
    assert bus.past(second.time_ns, second.time_ns) == [second]
    assert bus.past(second.time_ns, None) == [second, third]
    assert bus.past(0, first.time_ns) == [first]


async def collect(bus: EventBus, since_ns: int | None, until_ns: int | None) -> list[str]:
    with bus.subscribe(None, since_ns, until_ns) as live:
        return [event.actor.id async for event in live]


def test_a_subscription_until_the_past_ends_with_history() -> None:
    async def scenario() -> None:
        bus = EventBus()
        bus.publish("image", "tag", "old", {})
        assert await collect(bus, 0, time.time_ns()) == ["old"]
        assert bus.listeners == 0

    asyncio.run(scenario())


def test_a_listener_gets_history_then_new_events_in_order() -> None:
    async def scenario() -> None:
        bus = EventBus()
        bus.publish("image", "tag", "1", {})
        with bus.subscribe(since_ns=0) as live:
            bus.publish("image", "tag", "2", {})
            asyncio.get_running_loop().call_soon(bus.publish, "image", "tag", "3", {})
            assert [(await anext(live)).actor.id for _ in range(3)] == ["1", "2", "3"]

    asyncio.run(scenario())


def test_closing_releases_a_waiting_listener() -> None:
    async def scenario() -> None:
        bus = EventBus()
        with bus.subscribe() as live:
            asyncio.get_running_loop().call_soon(live.close)
            assert [event async for event in live] == []

    asyncio.run(scenario())


def test_both_shapes_of_the_filters_parameter_mean_the_same() -> None:
    new, old = parse_filters('{"label":["a","b"]}'), parse_filters('{"label":{"a":true,"b":true,"c":false}}')
    assert new.values("label") == old.values("label") == ("a", "b")


def test_an_unknown_filter_is_named() -> None:
    with pytest.raises(InvalidParameter, match=r"^invalid filter 'x'$"):
        parse_filters('{"x":["1"]}', {"label"})


def test_a_flag_that_is_neither_true_nor_false_is_refused() -> None:
    with pytest.raises(InvalidParameter, match=r"^invalid filter 'dangling=\[maybe\]'$"):
        parse_filters('{"dangling":["maybe"]}').flag("dangling", False)


@pytest.mark.parametrize("text", ["nonsense", "[1]", '{"a":1}', '{"a":[1]}'])
def test_malformed_filters_are_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid filter"):
        parse_filters(text)


def test_labels_match_by_name_or_by_value() -> None:
    filters = parse_filters('{"label":["tier=front"],"label!":["keep"]}')
    assert filters.matches_labels({"tier": "front"})
    assert not filters.matches_labels({"tier": "back"})
    assert filters.excludes_labels({"keep": ""})
    assert not filters.excludes_labels(None)


@pytest.mark.parametrize(
    ("text", "moment_ns"),
    [
        ("1700000000", 1700000000 * 10**9),
        ("1700000000.000000001", 1700000000 * 10**9 + 1),
        ("2023-11-14T22:13:20Z", 1700000000 * 10**9),
        ("2023-11-14T22:13:20.000000001Z", 1700000000 * 10**9 + 1),
        ("2023-11-14T23:13:20.5+01:00", 1700000000 * 10**9 + 500_000_000),
    ],
)
def test_moments_are_read_to_the_nanosecond(text: str, moment_ns: int) -> None:
    assert parse_timestamp(text) == moment_ns


def test_a_moment_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="invalid time 'soon'"):
        parse_timestamp("soon")


def test_moments_are_written_in_utc() -> None:
    assert format_timestamp(1700000000 * 10**9 + 500_000_000) == "2023-11-14T22:13:20.5Z"
    assert format_timestamp(0) == "0001-01-01T00:00:00Z"
