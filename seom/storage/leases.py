"""Leases: content that is on its way into the store and must survive garbage collection.

The roots of the collector are database rows and leases. A pull, load, commit or build holds a
lease on every digest it relies on, from before it looks whether the content is there until its
rows are committed. Leases live in memory: after a crash, half-made work is garbage.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self


class Lease:
    """A growing set of digests (blobs or layers) that are protected until it ends."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._held: set[str] = set()
        self._ended = False

    def hold(self, *digests: str) -> None:
        """Protect content, whether it exists already or not. Callable from any thread.

        Nothing happens after end(): work that was given up may still be under way in a thread.
        """
        if self._ended:
            return
        self._leases.acquire(set(digests) - self._held)
        self._held.update(digests)

    def end(self) -> None:
        """Give up the protection; calling it again does nothing."""
        self._ended = True
        held, self._held = self._held, set()
        self._leases.release(held)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


class Leases:
    """All leases of one data root, shared by the stores and the collector; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._sweeps: list[set[str]] = []

    def lease(self) -> Lease:
        """A new, empty lease: ``with leases.lease() as lease: lease.hold(digest)``."""
        return Lease(self)

    def acquire(self, digests: set[str]) -> None:
        """Count one more holder of each digest."""
        with self._lock:
            self._counts.update(digests)
            for touched in self._sweeps:
                touched |= digests

    def release(self, digests: set[str]) -> None:
        """Count one holder less."""
        with self._lock:
            for digest in digests:
                self._counts[digest] -= 1
                if self._counts[digest] <= 0:
                    del self._counts[digest]

    def held(self) -> set[str]:
        """What is protected now."""
        with self._lock:
            return set(self._counts)

    @contextmanager
    def sweep(self) -> Iterator[Callable[[str, Callable[[], None]], bool]]:
        """Begin a collection; yields discard(digest, action).

        The action runs, atomically with respect to hold(), only if nobody has held the digest
        since the sweep began: whoever held it may have committed rows that the sweep's view of
        the database does not contain.
        """
        with self._lock:
            touched = set(self._counts)
            self._sweeps.append(touched)

        def discard(digest: str, action: Callable[[], None]) -> bool:
            with self._lock:
                if digest in touched:
                    return False
                action()
                return True

        try:
            yield discard
        finally:
            with self._lock:
                self._sweeps = [other for other in self._sweeps if other is not touched]
