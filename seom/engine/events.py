"""What happened: events published by the engine, kept for a while, and streamed to whoever listens.

Commit first, then publish. An event may be lost (a crash, a listener that does not read): whoever
must not miss a fact also lists it now and then.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType

import msgspec

from seom.engine.filters import Filters

HISTORY = 1024
"""Events kept for a later ``since``."""

BACKLOG = 8192
"""Events that wait for one listener before the oldest are dropped."""

# Actions that carry a detail after a colon ("health_status: healthy"), found without it too.
_WITH_DETAIL = frozenset({"exec_create", "exec_start", "exec_die", "health_status"})


class Actor(msgspec.Struct, frozen=True):
    """The object an event is about."""

    id: str = msgspec.field(name="ID")
    attributes: dict[str, str] = msgspec.field(name="Attributes")


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event as the Engine API sends it; status, id and from are for clients before 1.22."""

    status: str | msgspec.UnsetType = msgspec.UNSET
    id: str | msgspec.UnsetType = msgspec.UNSET
    image: str | msgspec.UnsetType = msgspec.field(name="from", default=msgspec.UNSET)
    type: str = msgspec.field(name="Type")
    action: str = msgspec.field(name="Action")
    actor: Actor = msgspec.field(name="Actor")
    scope: str = "local"
    time_s: int = msgspec.field(name="time")
    time_ns: int = msgspec.field(name="timeNano")


def matches(event: Event, filters: Filters) -> bool:
    """Whether an event passes the filters: all keys must match, one value of each is enough."""
    actor, attributes = event.actor, event.actor.attributes
    return (
        _matches_action(event.action, filters)
        and filters.matches("type", event.type)
        and filters.matches("scope", event.scope)
        and all(
            filters.matches_prefix(kind, actor.id, attributes.get("name", ""))
            for kind in ("container", "volume", "network", "daemon", "plugin")
            if kind in filters
        )
        and _matches_image(event, filters)
        and filters.matches_labels(attributes)
    )


def _matches_action(action: str, filters: Filters) -> bool:
    if "event" not in filters:
        return True
    bare = action.partition(":")[0]
    return any(
        wanted == action or (wanted == bare and bare in _WITH_DETAIL) for wanted in filters.values("event")
    )


def _matches_image(event: Event, filters: Filters) -> bool:
    if "image" not in filters:
        return True
    name = event.actor.attributes.get("name" if event.type == "image" else "image", "")
    known = {event.actor.id, name, _without_tag(name)}
    return any(wanted in known for wanted in filters.values("image"))


def _without_tag(reference: str) -> str:
    repository, colon, tag = reference.partition("@")[0].rpartition(":")
    return repository if colon and "/" not in tag else reference


class Subscription:
    """The events from one moment on; an async iterator that ends after close() or at until_ns."""

    def __init__(
        self,
        filters: Filters,
        past: Iterable[Event],
        until_ns: int | None,
        forget: Callable[[Subscription], None],
    ) -> None:
        self._filters = filters
        self._until_ns = until_ns
        self._forget = forget
        self._waiting = deque(past, maxlen=BACKLOG)
        self._changed = asyncio.Event()
        self._closed = False

    def offer(self, event: Event) -> None:
        """Take an event when it passes the filters; never blocks."""
        if matches(event, self._filters):
            self._waiting.append(event)
            self._changed.set()

    def close(self) -> None:
        """Stop listening; a waiting reader is released."""
        self._closed = True
        self._forget(self)
        self._changed.set()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            try:
                async with asyncio.timeout(self._remaining_s()):
                    await self._changed.wait()
            except TimeoutError as error:
                raise StopAsyncIteration from error
        event = self._waiting.popleft()
        if self._until_ns is not None and event.time_ns > self._until_ns:
            raise StopAsyncIteration
        return event

    def _remaining_s(self) -> float | None:
        return None if self._until_ns is None else max(0.0, (self._until_ns - time.time_ns()) / 1e9)


class EventBus:
    """Publishes events on the event loop's thread, in order, to history and listeners."""

    def __init__(self) -> None:
        self._history: deque[Event] = deque(maxlen=HISTORY)
        self._subscriptions: set[Subscription] = set()
        self._last_ns = 0

    def publish(self, type: str, action: str, actor_id: str, attributes: Mapping[str, str]) -> Event:
        """Record and distribute what happened to an object; returns the event."""
        # Strictly increasing, so that "since the last one seen" neither repeats nor misses.
        now_ns = self._last_ns = max(time.time_ns(), self._last_ns + 1)
        legacy = type in ("container", "image")
        event = Event(
            status=action if legacy else msgspec.UNSET,
            id=actor_id if legacy else msgspec.UNSET,
            image=attributes.get("image", msgspec.UNSET) if type == "container" else msgspec.UNSET,
            type=type,
            action=action,
            actor=Actor(actor_id, dict(attributes)),
            time_s=now_ns // 1_000_000_000,
            time_ns=now_ns,
        )
        self._history.append(event)
        for subscription in tuple(self._subscriptions):
            subscription.offer(event)
        return event

    @property
    def listeners(self) -> int:
        """How many subscriptions are open."""
        return len(self._subscriptions)

    def subscribe(
        self, filters: Filters | None = None, since_ns: int | None = None, until_ns: int | None = None
    ) -> Subscription:
        """Listen from now on, or first read what is remembered from since_ns on; end at until_ns.

        Close the subscription, or use it in a ``with``. Moments are nanoseconds since the epoch.
        """
        wanted = filters or Filters()
        past = [] if since_ns is None else self.past(since_ns, until_ns, wanted)
        subscription = Subscription(wanted, past, until_ns, self._subscriptions.discard)
        self._subscriptions.add(subscription)
        return subscription

    def past(self, since_ns: int, until_ns: int | None, filters: Filters | None = None) -> list[Event]:
        """Remembered events from since_ns to until_ns (nanoseconds since the epoch, inclusive)."""
        wanted = filters or Filters()
        return [
            event
            for event in self._history
            if since_ns <= event.time_ns
            and (until_ns is None or event.time_ns <= until_ns)
            and matches(event, wanted)
        ]
