"""Owns measuring what a stored state costs: its bytes, and reading it against encoding it anew.

Never judges what fewer bits do to scores; `state_effect` does. The store is a real Redis or Valkey
and is asked the way the service asks it.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import redis
import torch

from cache import Dtype, Entry, RedisStore
from model.config import Window
from model.engine.encoder import EncodeJob
from model.engine.engine import Engine
from model.engine.state import UserState
from model.history import History
from model.network.hstu import HSTU
from service.benchmark.shapes import Shape
from service.codec import StateCodec, StoredState

LENGTHS = (10, 50, 100, 200, 500, 1024, 2048, 4096, 8192)
APPENDED_TO = 1024
"""Events of the state that one more is appended to."""

_START_S = 1_500_000_000
_TIMEOUT_S = 60.0
_TURN_MS = 100.0
_LONG_MS = 2000.0
"""An encoding that takes longer is timed once: no fetch comes near it, and rounds would last."""


@dataclass(frozen=True, slots=True)
class Bytes:
    """What a state takes in one dtype."""

    per_event: int
    per_user: int  # header included, at the shape's `num_events`
    of_float32: float  # `per_user` over that of float32
    append_sent: int  # by the store's client, to append one event to `APPENDED_TO`
    append_share: float  # of the bytes of that state


@dataclass(frozen=True, slots=True)
class Point:
    """Milliseconds at one length of history: the fastest call of a turn, medians over rounds."""

    num_events: int
    recompute_ms: float  # prefill of all final rows; timed once where it takes seconds
    fetch_ms: dict[str, float]  # by dtype: GET, check, decode
    decode_ms: dict[str, float]  # by dtype: the part of it that a state kept in that dtype costs


@dataclass(frozen=True, slots=True)
class StateCost:
    shape: Shape
    rounds: int
    tensor_bytes: int  # of a state as the engine reads it, at the shape's `num_events`
    bytes: dict[str, Bytes]  # by dtype
    points: list[Point]
    crossover: dict[str, int | None]  # by dtype; the shortest length from which on fetching wins


def measure_state(
    shape: Shape,
    url: str,
    *,
    lengths: Sequence[int],
    rounds: int,
    seed: int,
    on_length: Callable[[int], None],
) -> StateCost:
    """`url` is that of a Redis or Valkey; `on_length` is called before each length."""
    torch.manual_seed(seed)
    return asyncio.run(_Measuring(shape, url, max(lengths)).run(lengths, rounds, on_length))


class _Measuring:
    def __init__(self, shape: Shape, url: str, longest: int) -> None:
        capacity = max(longest, APPENDED_TO + 1, shape.num_events)
        window = Window(capacity=capacity, keep=capacity)
        config = shape.config().model_copy(update={"window": window})
        self._shape, self._url = shape, url
        self._engine = Engine(HSTU(config))
        self._codecs = {
            dtype: StateCodec(config, bytes([dtype] * 16), self._engine.pool, dtype)
            for dtype in Dtype
        }

    async def run(
        self, lengths: Sequence[int], rounds: int, on_length: Callable[[int], None]
    ) -> StateCost:
        store = RedisStore.from_url(self._url, ttl_s=3600, timeout_s=_TIMEOUT_S)
        try:
            usual, sizes = await self._bytes(store)
            points = []
            for length in lengths:
                on_length(length)
                points.append(await self._point(store, length, rounds))
        finally:
            await store.close()
        crossover = {dtype.label: _crossover(points, dtype.label) for dtype in Dtype}
        return StateCost(self._shape, rounds, usual.num_bytes, sizes, points, crossover)

    async def _bytes(self, store: RedisStore) -> tuple[UserState, dict[str, Bytes]]:
        usual = self._encode(_history(self._shape.num_events))
        longer = _history(APPENDED_TO + 1)
        before, after = (self._encode(history) for history in (longer.cut(0, -1), longer))
        float32 = self._codecs[Dtype.FLOAT32].cost(len(usual.history))[1]
        sizes: dict[str, Bytes] = {}
        for dtype, codec in self._codecs.items():
            _, per_user = codec.cost(len(usual.history))
            held, key = await _put(store, codec, before), codec.key("u")
            append = codec.append("u", StoredState(before, 1, held.header), after)
            assert append is not None
            sent = await self._bytes_sent(store.append(key, append))
            await store.delete(key)
            share = sent / held.num_bytes
            sizes[dtype.label] = Bytes(codec.row_bytes, per_user, per_user / float32, sent, share)
        return usual, sizes

    async def _bytes_sent(self, append: Awaitable[bool]) -> int:
        """As the server counts them: the row, the headers, and the words of the command."""
        with redis.Redis.from_url(self._url) as server:
            counts = [_received(server), _received(server)]
            assert await append
            counts.append(_received(server))
        to_ask = counts[1] - counts[0]
        return counts[2] - counts[1] - to_ask

    async def _point(self, store: RedisStore, length: int, rounds: int) -> Point:
        """Recomputing and fetching every dtype take turns in each round."""
        history = _history(length)
        start = time.perf_counter()
        state = self._encode(history)  # also the warm-up
        first_ms = 1000 * (time.perf_counter() - start)

        async def recompute() -> None:
            self._encode(history)

        def fetch(codec: StateCodec) -> Callable[[], Awaitable[None]]:
            async def run() -> None:
                found = await store.load(codec.key("u"))
                assert found.entry is not None
                assert codec.decode(found.entry) is not None

            return run

        def decode(codec: StateCodec, entry: Entry) -> Callable[[], Awaitable[None]]:
            async def run() -> None:
                codec.decode(entry)

            return run

        contenders: dict[str, Callable[[], Awaitable[None]]] = {}
        if first_ms <= _LONG_MS:
            contenders["recompute"] = recompute
        for dtype, codec in self._codecs.items():
            entry = await _put(store, codec, state)
            contenders[f"fetch {dtype.label}"] = fetch(codec)
            contenders[f"decode {dtype.label}"] = decode(codec, entry)
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, contender in contenders.items():
                times[name].append(await _fastest_ms(contender))
        for codec in self._codecs.values():
            await store.delete(codec.key("u"))
        median = {name: statistics.median(each) for name, each in times.items()}
        fetch_ms, decode_ms = (
            {dtype.label: median[f"{part} {dtype.label}"] for dtype in Dtype}
            for part in ("fetch", "decode")
        )
        return Point(length, median.get("recompute", first_ms), fetch_ms, decode_ms)

    def _encode(self, history: History) -> UserState:
        return self._engine.encode([EncodeJob(self._engine.empty_state(), history)])[0].state


async def _put(store: RedisStore, codec: StateCodec, state: UserState) -> Entry:
    lineage = (await store.load(codec.key("u"))).lineage
    entry = codec.encode("u", state, 1, lineage)
    assert await store.put(codec.key("u"), entry)
    return entry


def _crossover(points: Sequence[Point], dtype: str) -> int | None:
    """The shortest length measured at which, and at all longer ones, fetching takes less time."""
    found = None
    for point in reversed(points):
        if point.fetch_ms[dtype] >= point.recompute_ms:
            break
        found = point.num_events
    return found


def _history(length: int) -> History:
    items = torch.arange(length) * 7 % 5000
    gaps = torch.arange(length) * 37 % 7200
    return History(items, 1 + torch.arange(length) % 3, gaps.cumsum(0) + _START_S)


def _received(server: "redis.Redis") -> int:
    """Bytes that all clients have sent."""
    return int(server.info("stats")["total_net_input_bytes"])


async def _fastest_ms(run: Callable[[], Awaitable[None]]) -> float:
    """Of the calls of one turn; a mean would count the pauses that other programs cause."""
    times: list[float] = []
    while sum(times) < _TURN_MS:
        start = time.perf_counter()
        await run()
        times.append(1000 * (time.perf_counter() - start))
    return min(times)
