"""Owns measuring how states are read: this project's way against redis-py's asyncio client.

Never compares single times: contenders take turns in every round. The event loop is the one that
the service runs on, and several reads are under way at once, as requests of several users are.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import redis.asyncio
import torch
import uvicorn
from redis.asyncio.connection import DefaultParser

from cache import HEADER_BYTES, RedisStore, read_entry
from cache.redis.client import RedisClient
from cache.redis.node import Session
from cache.redis.parser import DirectParser
from model.config import Window
from model.engine.state import UserState
from model.kernels.pages import PagePool
from service.benchmark.shapes import Shape
from service.benchmark.state_cost import made_up_history
from service.codec import StateCodec

SIZES_BYTES = (1 << 19, 1 << 21, 1 << 23)
CONCURRENCIES = (1, 4, 16)
OURS, CLIENT, PARSER = "mfalcon", "redis-py", "redis-py, our parser"

_TIMEOUT_S = 60.0
_TTL_S = 3600
_TURN_S = 0.1
_TICK_S = 0.001

Read = Callable[[str], Awaitable[Any]]
"""The bytes of a key's value; in the hands of redis-py's types, anything."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Medians over the rounds, by contender."""

    ms: dict[str, float]  # from asking for all that are read at once to having them
    stall_ms: dict[str, float]  # the longest time in a turn that the event loop was late
    of_client: dict[str, float]  # `ms` of redis-py's client over that of this contender


@dataclass(frozen=True, slots=True)
class ReadPoint:
    value_bytes: int
    concurrency: int
    read: Taken  # the values alone
    fetch: Taken  # from values to tensors: checked and decoded, on the event loop as in the service


@dataclass(frozen=True, slots=True)
class Reads:
    loop: str  # the package of the event loop
    client: str  # redis-py's version and parser
    rounds: int
    points: list[ReadPoint]


def measure_reads(
    shape: Shape,
    url: str,
    *,
    sizes_bytes: Sequence[int],
    concurrencies: Sequence[int],
    rounds: int,
    seed: int,
    on_point: Callable[[int, int], None],
) -> Reads:
    """Float32 states of the shape's model, of the event count that comes closest to each size.

    `url` is that of a single Redis or Valkey, which holds the states until the end;
    `on_point` is called with the size and the concurrency before each.
    """
    torch.manual_seed(seed)
    # uvloop, where it is installed.
    with asyncio.Runner(loop_factory=uvicorn.Config(app="").get_loop_factory()) as runner:
        loop = type(runner.get_loop()).__module__.partition(".")[0]

        async def run() -> list[ReadPoint]:
            points = []
            for size_bytes in sizes_bytes:
                async with _stored(shape, url, size_bytes, max(concurrencies)) as states:
                    for concurrency in concurrencies:
                        on_point(size_bytes, concurrency)
                        points.append(await states.measure(concurrency, rounds))
            return points

        client = f"{redis.__version__}, {DefaultParser.__name__}"
        return Reads(loop, client, rounds, runner.run(run()))


@asynccontextmanager
async def _stored(
    shape: Shape, url: str, size_bytes: int, num_users: int
) -> AsyncIterator["_States"]:
    window = Window(capacity=size_bytes, keep=size_bytes)
    config = shape.config().model_copy(update={"window": window})
    pool = PagePool(config)
    codec = StateCodec(config, bytes(16), pool)
    num_rows = (size_bytes - HEADER_BYTES) // codec.row_bytes
    keys, values = (
        torch.randn(config.num_layers, config.num_heads, num_rows, dim)
        for dim in (config.qk_dim, config.v_dim)
    )
    state = UserState(made_up_history(num_rows + 1), pool.hold(keys, values))
    users = [f"bench {number}" for number in range(num_users)]
    store = RedisStore.from_url(url, ttl_s=_TTL_S, timeout_s=_TIMEOUT_S)
    try:
        for user in users:
            lineage = (await store.load(codec.key(user))).lineage
            entry = codec.encode(user, state, 1, lineage)
            assert await store.put(codec.key(user), entry)
        yield _States(url, codec, users, entry.num_bytes)
    finally:
        for user in users:
            await store.delete(codec.key(user))
        await store.close()


@asynccontextmanager
async def _contenders(url: str, concurrency: int) -> AsyncIterator[dict[str, Read]]:
    ours = RedisClient.from_url(url, timeout_s=_TIMEOUT_S, max_connections=concurrency)
    parser = partial(DirectParser, timeout_s=_TIMEOUT_S)
    async with (
        redis.asyncio.Redis.from_url(url) as client,
        redis.asyncio.Redis.from_url(url, protocol=2, parser_class=parser) as with_parser,
    ):
        yield {
            OURS: _reader(ours),
            CLIENT: client.get,
            PARSER: with_parser.get,
        }
        await ours.close()


def _reader(client: RedisClient) -> Read:
    async def read(name: str) -> Any:
        async def get(session: Session) -> Any:
            (value,) = await session.call(("GET", name))
            return value

        return await client.run(name, get, is_read=True)

    return read


@dataclass(frozen=True, slots=True)
class _States:
    """States of one size in the store."""

    url: str
    codec: StateCodec
    users: Sequence[str]
    value_bytes: int

    async def measure(self, concurrency: int, rounds: int) -> ReadPoint:
        async with _contenders(self.url, concurrency) as contenders:
            works = {
                (part, name): work(read)
                for name, read in contenders.items()
                for part, work in (("read", self._reading), ("fetch", self._fetching))
            }
            users = self.users[:concurrency]
            turns: dict[tuple[str, str], list[_Turn]] = {key: [] for key in works}
            for work in works.values():
                await asyncio.gather(*map(work, users))  # connects
            for _ in range(rounds):
                for key, work in works.items():
                    turns[key].append(await _turn(work, users))
        read, fetch = (
            _taken({name: turns[part, name] for name in contenders}) for part in ("read", "fetch")
        )
        return ReadPoint(self.value_bytes, concurrency, read, fetch)

    def _reading(self, read: Read) -> Callable[[str], Awaitable[None]]:
        async def run(user: str) -> None:
            assert len(await read(self.codec.key(user).name)) == self.value_bytes

        return run

    def _fetching(self, read: Read) -> Callable[[str], Awaitable[None]]:
        async def run(user: str) -> None:
            key = self.codec.key(user)
            entry = read_entry(await read(key.name), key)
            assert entry is not None
            assert self.codec.decode(entry) is not None

        return run


@dataclass(frozen=True, slots=True)
class _Turn:
    ms: float
    stall_ms: float


async def _turn(work: Callable[[str], Awaitable[None]], users: Sequence[str]) -> _Turn:
    """All users at once, again and again for a while: the fastest, and the longest stall."""
    times: list[float] = []
    async with _stall() as stall:
        began = time.perf_counter()
        while time.perf_counter() - began < _TURN_S:
            start = time.perf_counter()
            await asyncio.gather(*map(work, users))
            times.append(1000 * (time.perf_counter() - start))
    return _Turn(min(times), stall())


@asynccontextmanager
async def _stall() -> AsyncIterator[Callable[[], float]]:
    """The longest milliseconds by which a timer was late, so far."""
    latest_s = 0.0

    async def tick() -> None:
        nonlocal latest_s
        while True:
            due = time.perf_counter() + _TICK_S
            await asyncio.sleep(_TICK_S)
            latest_s = max(latest_s, time.perf_counter() - due)

    task = asyncio.create_task(tick())
    await asyncio.sleep(0)
    try:
        yield lambda: 1000 * latest_s
    finally:
        await asyncio.sleep(_TICK_S)  # A tick that is overdue is seen.
        task.cancel()


def _taken(turns: dict[str, list[_Turn]]) -> Taken:
    ms = {name: statistics.median(turn.ms for turn in each) for name, each in turns.items()}
    stall_ms = {
        name: statistics.median(turn.stall_ms for turn in each) for name, each in turns.items()
    }
    return Taken(ms, stall_ms, {name: ms[CLIENT] / each for name, each in ms.items()})
