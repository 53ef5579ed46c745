"""Whatever stands in a state's place in Redis: a miss, the right answer, and a state again."""

import struct
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import redis

from cache import HEADER_BYTES, RedisStore
from model.checkpoint import Checkpoint
from model.engine.encoder import EncodeJob
from model.engine.engine import Engine
from service.codec import StateCodec
from service.device_tier import DeviceTier
from service.metrics import Metrics
from service.states import UserStates
from tests.service.builders import (
    ITEM_IDS,
    JSON,
    Service,
    assert_right,
    history_of,
    make_events,
    serving,
)

pytestmark = pytest.mark.anyio

EVENTS = make_events(3)
ASKED: JSON = {"candidates": ITEM_IDS[::20], "exclude_seen": False, "include": ["parts"]}
FORMAT_VERSION_AT, CHECKSUM_AT = 4, HEADER_BYTES - 4

Damage = Callable[[bytes], bytes]


def flipped(bit: int) -> Damage:
    def flip(value: bytes) -> bytes:
        damaged = bytearray(value)
        damaged[bit // 8 % len(value)] ^= 1 << bit % 8
        return bytes(damaged)

    return flip


def cut(length: int) -> Damage:
    return lambda value: value[:length]


def in_format(version: int) -> Damage:
    """As a service of that format would have written it, its checksum included."""

    def write(value: bytes) -> bytes:
        body = bytearray(value[:CHECKSUM_AT])
        struct.pack_into("<H", body, FORMAT_VERSION_AT, version)
        return bytes(body) + struct.pack("<I", zlib.crc32(body)) + value[HEADER_BYTES:]

    return write


async def test_every_flipped_bit_and_every_truncation_is_a_miss(
    redis_url: str, engine: Engine, checkpoint: Checkpoint
) -> None:
    codec = StateCodec(engine.config, bytes(16), engine.pool)
    store = RedisStore.from_url(redis_url, ttl_s=100, timeout_s=10.0)
    states = UserStates(store, codec, engine.empty_state, DeviceTier(0), Metrics())
    history = history_of(checkpoint, EVENTS)
    (encoded,) = engine.encode([EncodeJob(engine.empty_state(), history)])
    begun = await states.load("u")
    assert await states.save("u", begun.stored, encoded.state)
    with redis.Redis.from_url(redis_url) as client:
        name = codec.key("u").name
        value = bytes(client.get(name) or b"")
        damages = [flipped(bit) for bit in range(8 * len(value))]
        for number, damage in enumerate([*damages, *map(cut, range(len(value)))]):
            client.set(name, damage(value))
            loaded = await states.load("u")
            assert (loaded.status, loaded.tier, len(loaded.stored.state.history)) == (
                "miss",
                None,
                0,
            ), number
        client.set(name, value)
    assert (await states.load("u")).status == "hit"
    await store.close()


@pytest.fixture
async def service(folder: Path, redis_url: str) -> AsyncIterator[Service]:
    """One that keeps no tensors, so that every state is read from the store."""
    limits = {"store_timeout_ms": 10_000, "max_budget_ms": 60_000, "device_cache_bytes": 0}
    async with serving(folder, store=redis_url, **limits) as running:
        yield running


@pytest.mark.parametrize(
    "damages",
    [
        [flipped(8 * byte + byte % 8) for byte in range(0, HEADER_BYTES, 4)],
        [flipped(-1 - 700 * number) for number in range(5)],
        [cut(length) for length in (0, 1, 15, 16, 17, HEADER_BYTES - 1, HEADER_BYTES, 200, -1)],
        [in_format(version) for version in (0, 1, 3, 65_535)],
    ],
    ids=["header", "payload", "truncated", "format versions"],
)
async def test_damage_reaches_no_answer(
    service: Service, redis_url: str, checkpoint: Checkpoint, damages: list[Damage]
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        await service.add_events(EVENTS)
        (key,) = client.keys("mf:*")
        for damage in damages:
            value = bytes(client.get(key) or b"")
            assert damage(value) != value
            client.set(key, damage(value))
            for status in ("miss", "hit"):
                answer = await service.recommend(events=EVENTS, **ASKED)
                await service.runtime.recommender().drain()
                assert answer["cache"]["status"] == status
                assert answer["degraded"] == []
                assert_right(answer, checkpoint, EVENTS)


async def test_another_users_and_another_models_state_reach_no_answer(
    service: Service, redis_url: str, checkpoint: Checkpoint
) -> None:
    users = {"alice": make_events(3), "bob": make_events(5, first=4)}
    for user, events in users.items():
        await service.add_events(events, user_id=user)
    with redis.Redis.from_url(redis_url) as client:
        alice, bob = (bytes(client.keys(f"mf:{{{user}}}:*")[0]) for user in users)
        client.rename(alice, "aside")
        client.rename(bob, alice)
        client.rename("aside", bob)
        for status in ("miss", "hit"):
            for user, events in users.items():
                answer = await service.recommend(user_id=user, events=events, **ASKED)
                await service.runtime.recommender().drain()
                assert answer["cache"]["status"] == status
                assert_right(answer, checkpoint, events)
        value = bytearray(client.get(alice) or b"")
        fingerprint = bytes.fromhex(alice.rpartition(b":")[2].decode())
        body = value[:CHECKSUM_AT]
        body[value.index(fingerprint)] ^= 1
        value[:HEADER_BYTES] = body + struct.pack("<I", zlib.crc32(body))
        client.set(alice, bytes(value))
        answer = await service.recommend(user_id="alice", events=users["alice"], **ASKED)
        assert answer["cache"]["status"] == "miss"
        assert_right(answer, checkpoint, users["alice"])
