"""Owns what is done to Redis and to what it holds."""

import asyncio
from collections.abc import Callable
from itertools import cycle
from random import Random

from loadtests.faults.fault import Again, Fault
from loadtests.faults.stage import Stage
from loadtests.resp import Resp


class Killed(Fault):
    name = "redis-killed"

    async def begin(self, stage: Stage) -> None:
        await asyncio.to_thread(stage.redis.kill)

    async def end(self, stage: Stage) -> None:
        await stage.start_redis()


class Paused(Fault):
    name = "redis-paused"

    async def begin(self, stage: Stage) -> None:
        stage.redis.pause()

    async def end(self, stage: Stage) -> None:
        stage.redis.resume()


class Full(Fault):
    """Reads go on, writes are refused."""

    name = "redis-full"

    async def begin(self, stage: Stage) -> None:
        await _tell(stage, ("maxmemory-policy", "noeviction"), ("maxmemory", "1"))

    async def end(self, stage: Stage) -> None:
        await _tell(stage, ("maxmemory", stage.redis.memory), ("maxmemory-policy", "allkeys-lru"))


class Flushed(Again):
    name = "redis-flushed"

    async def begin(self, stage: Stage) -> None:
        await asyncio.to_thread(_flush, stage.redis.port)


class Corrupted(Again):
    """A part of the states at a time, so that right ones are read, too."""

    name = "values-corrupted"

    async def begin(self, stage: Stage) -> None:
        draw = Random(f"{stage.plan.seed}:{stage.now_s()}")
        await asyncio.to_thread(corrupt, stage.redis.port, draw)


def _flipped(value: bytes, draw: Random) -> bytes:
    place = draw.randrange(len(value))
    return value[:place] + bytes([value[place] ^ 1 << draw.randrange(8)]) + value[place + 1 :]


DAMAGE: list[Callable[[bytes, Random], bytes]] = [
    _flipped,
    _flipped,
    lambda value, draw: value[: draw.randrange(len(value))],
    lambda value, _: value + b"more",
    lambda value, _: bytes(len(value)),
    lambda _value, draw: draw.randbytes(200),
    lambda _value, _draw: b"",
]
CORRUPTED_SHARE = 0.3


def corrupt(port: int, draw: Random) -> int:
    """Damage some of the states; how many. Blocks."""
    with Resp(port) as client:
        chosen = [key for key in client.keys("mf:*") if draw.random() < CORRUPTED_SHARE]
        for key, damage in zip(chosen, cycle(DAMAGE), strict=False):
            value = client.ask("GET", key)
            if isinstance(value, bytes) and value:
                client.ask("SET", key, damage(value, draw), "KEEPTTL")
        return len(chosen)


def _flush(port: int) -> None:
    with Resp(port) as client:
        client.ask("FLUSHALL")


async def _tell(stage: Stage, *settings: tuple[str, str]) -> None:
    def tell() -> None:
        with Resp(stage.redis.port) as client:
            for name, value in settings:
                client.ask("CONFIG", "SET", name, value)

    await asyncio.to_thread(tell)
