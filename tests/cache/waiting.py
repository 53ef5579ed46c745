"""Owns waiting for a store, without a guess how long that takes."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

import anyio

from cache import StoreUnavailable

T = TypeVar("T")
NO_HANG_S: Final = 60.0
"""A sentinel that gave up a failover on a busy machine tries again after four seconds."""


async def until(holds: Callable[[], bool]) -> None:
    with anyio.fail_after(NO_HANG_S):
        while True:
            if holds():
                return
            await asyncio.sleep(0)


async def eventually(call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What the call returns once it meets a store that is available."""
    with anyio.fail_after(NO_HANG_S):
        while True:
            with suppress(StoreUnavailable):
                return await call()
            await asyncio.sleep(0.02)
