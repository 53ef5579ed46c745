"""Which requests are waited for: those that had begun, and no others."""

import asyncio

import anyio
import pytest

from service.in_flight import InFlight

pytestmark = pytest.mark.anyio

NO_HANG_S = 20.0


async def test_where_nothing_is_in_flight_nothing_is_waited_for() -> None:
    in_flight = InFlight()
    with in_flight.request():
        pass
    with anyio.fail_after(NO_HANG_S):
        await in_flight.ended()


async def test_only_those_that_had_begun_are_waited_for() -> None:
    in_flight = InFlight()
    first, second = in_flight.request(), in_flight.request()
    first.__enter__()
    second.__enter__()
    waiting = asyncio.create_task(in_flight.ended())
    await asyncio.sleep(0)
    with in_flight.request():
        first.__exit__(None, None, None)
        await asyncio.sleep(0.01)
        assert not waiting.done()
        second.__exit__(None, None, None)
        with anyio.fail_after(NO_HANG_S):
            await waiting


async def test_a_request_that_fails_has_ended() -> None:
    in_flight = InFlight()
    waiting: list[asyncio.Task[None]] = []

    async def fail() -> None:
        with in_flight.request():
            waiting.append(asyncio.create_task(in_flight.ended()))
            await asyncio.sleep(0)
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        await fail()
    with anyio.fail_after(NO_HANG_S):
        await waiting[0]
