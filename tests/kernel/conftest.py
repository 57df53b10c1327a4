"""Fixtures for tests that run containers without a daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.harness.sandboxes import Host, host

OnHost = Callable[[Callable[[Host], Awaitable[None]]], None]


@pytest.fixture
def on_host(tmp_path: Path) -> OnHost:
    """Runs a coroutine function with a fresh runtime."""

    def run(test: Callable[[Host], Awaitable[None]]) -> None:
        async def main() -> None:
            async with host(tmp_path) as made:
                await test(made)

        asyncio.run(main())

    return run
