"""How often, and after which pauses, something that failed on the network is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from seom.images.endpoint import RegistrySettings
from seom.images.registry_errors import ConnectionFailed, RegistryRefusal

T = TypeVar("T")

LONGEST_DELAY_S = 30
SMALL_REQUEST_ATTEMPTS = 3


class Patience:
    """Counts the failures in a row that brought no progress."""

    def __init__(self, settings: RegistrySettings, attempts: int = 0) -> None:
        """attempts, when given, is used in place of the settings'."""
        self._settings = settings
        self._attempts = attempts or settings.attempts
        self._failures = 0

    def delay_after(self, error: ConnectionFailed | RegistryRefusal, progressed: bool = False) -> float:
        """Seconds to wait before the next try; raises the error when another would be no use."""
        if isinstance(error, RegistryRefusal) and not error.worth_repeating:
            raise error
        self._failures = 1 if progressed else self._failures + 1
        if self._failures >= self._attempts:
            raise error
        return float(min(self._settings.retry_delay_s * 2 ** (self._failures - 1), LONGEST_DELAY_S))


async def patiently(settings: RegistrySettings, request: Callable[[], Awaitable[T]]) -> T:
    """The result of a small request, made again while it fails for reasons that may pass."""
    patience = Patience(settings, SMALL_REQUEST_ATTEMPTS)
    while True:
        try:
            return await request()
        except (ConnectionFailed, RegistryRefusal) as error:
            delay_s = patience.delay_after(error)
        await asyncio.sleep(delay_s)
