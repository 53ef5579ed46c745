"""Replies arrive as they were sent, however they are cut; a long value without being copied."""

import asyncio
import random
import zlib
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import anyio
import hiredis
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from redis import exceptions

from cache import Entry, RedisStore, StateKey, StoreUnavailable
from cache.redis.client import RedisClient
from cache.redis.node import Session
from cache.redis.parser import Intake
from tests.cache.entries import ALICE, FINGERPRINT, TTL_S, make_entry, put
from tests.cache.proxy import Proxy, proxy
from tests.cache.waiting import NO_HANG_S
from tests.redis_server import RedisServer

pytestmark = pytest.mark.anyio

CHUNK = 1 << 16
LONG = random.Random(0).randbytes(300_000)


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The service runs on uvloop where it is installed; loops differ in how they receive."""
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture
async def faulty(spare_redis_server: RedisServer) -> AsyncIterator[Proxy]:
    async with proxy(spare_redis_server.port) as made:
        yield made


def store_behind(faulty: Proxy, max_connections: int = 16) -> RedisStore:
    url = f"redis://127.0.0.1:{faulty.port}"
    return RedisStore.from_url(url, ttl_s=TTL_S, timeout_s=10.0, max_connections=max_connections)


class Transport(asyncio.Transport):
    """Receives nothing by itself."""

    def __init__(self) -> None:
        super().__init__()
        self._protocol: asyncio.BaseProtocol = asyncio.Protocol()

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def abort(self) -> None: ...


Reply = int | str | list["Reply"]
"""A value of that many bytes, a line, or an array."""

single = st.sampled_from([0, 1, 100, CHUNK - 20, CHUNK, CHUNK + 1, 3 * CHUNK]) | st.sampled_from(
    ["$-1", "+OK", ":12", "-ERR no", "*-1"]
)


def as_sent(reply: Reply) -> bytes:
    if isinstance(reply, str):
        return b"%b\r\n" % reply.encode()
    if isinstance(reply, int):
        return b"$%d\r\n%b\r\n" % (reply, LONG[:reply])
    return b"*%d\r\n%b" % (len(reply), b"".join(map(as_sent, reply)))


def by_hiredis(sent: bytes) -> list[str]:
    reader = hiredis.Reader(replyError=exceptions.ResponseError)
    reader.feed(sent)
    found = []
    while reader.has_data():
        found.append(shown(reader.gets(False)))
    return found


def shown(reply: Any) -> str:
    if isinstance(reply, bytes | memoryview):
        return f"{len(reply)} bytes, {zlib.crc32(reply)}"
    return str([shown(part) for part in reply] if isinstance(reply, list) else repr(reply))


@given(
    replies=st.lists(single | st.lists(single, max_size=3), min_size=1, max_size=5),
    cuts=st.lists(st.integers(0, 6 * CHUNK), max_size=12),
    is_taken_late=st.booleans(),
)
# What announces an array leaves hiredis without a byte to look at, and is not all of the reply.
@example(replies=[[CHUNK + 1], "+OK"], cuts=[4], is_taken_late=False)
@example(replies=[CHUNK + 1, CHUNK + 1], cuts=[], is_taken_late=True)
def test_replies_are_those_sent_wherever_they_are_cut(
    replies: list[Reply], cuts: list[int], is_taken_late: bool
) -> None:
    whole = b"".join(map(as_sent, replies))
    # Also between two replies, and between the parts of one.
    ends = [0, *(end for end in sorted(cuts) if end < len(whole)), len(whole)]

    async def run() -> list[str]:
        intake = Intake(Transport(), exceptions.ResponseError, NO_HANG_S)

        async def take() -> list[str]:
            return [shown(await intake.reply()) for _ in replies]

        taking = None if is_taken_late else asyncio.create_task(take())
        for start, end in pairwise(ends):
            piece = memoryview(whole)[start:end]
            while piece:
                place = intake.get_buffer(-1)
                received = min(len(place), len(piece))
                place[:received] = piece[:received]
                intake.buffer_updated(received)
                piece = piece[received:]
                await asyncio.sleep(0)
        async with asyncio.timeout(NO_HANG_S):
            found = await (taking or take())
        assert not intake.is_stale
        return found

    assert asyncio.run(run()) == by_hiredis(whole)


def test_nobody_gets_memory_for_the_asking() -> None:
    intake = Intake(Transport(), exceptions.ResponseError, NO_HANG_S)
    for announced in (b"$536870913\r\n", b"$99999999999999999999\r\n", b"$-5\r\n", b"$\r\n", b"$"):
        intake.get_buffer(-1)[: len(announced)] = announced
        intake.buffer_updated(len(announced))
        assert len(intake.get_buffer(-1)) == CHUNK
        assert intake.is_stale


async def test_a_reply_that_drips_in_is_given_up_as_a_whole() -> None:
    intake = Intake(Transport(), exceptions.ResponseError, 0.05)

    async def drip() -> None:
        beginning, part = b"*1000000\r\n", b":1\r\n"
        for piece in (beginning, *[part] * 999_999):
            intake.get_buffer(-1)[: len(piece)] = piece
            intake.buffer_updated(len(piece))
            await asyncio.sleep(0.001)

    dripping = asyncio.create_task(drip())
    with anyio.fail_after(NO_HANG_S), pytest.raises(exceptions.TimeoutError, match="reading"):
        await intake.reply()
    assert intake.is_stale
    dripping.cancel()


async def test_a_long_value_lies_where_it_was_received(faulty: Proxy) -> None:
    store = store_behind(faulty)
    for payload, kind in ((LONG, bytearray), (LONG[:1000], bytes)):
        key = StateKey(f"{kind}", FINGERPRINT)
        assert await put(store, key, make_entry(key, payload))
        found = await store.get(key)
        assert found == make_entry(key, payload)
        assert found is not None
        assert isinstance(found.payload, memoryview)
        assert isinstance(found.payload.obj, kind)
    await store.close()


@pytest.mark.parametrize(
    "num_bytes", [0, 1, 9, 10, CHUNK - 1, CHUNK, CHUNK + 1, 300_000, 300_128, 300_129, 300_130]
)
async def test_a_long_reply_cut_anywhere_is_unavailable_then_right_again(
    faulty: Proxy, num_bytes: int
) -> None:
    store, entry = store_behind(faulty), make_entry(ALICE, LONG)
    assert await put(store, ALICE, entry)
    faulty.replies_left = num_bytes
    with pytest.raises(StoreUnavailable, match="check that it runs"):
        await store.get(ALICE)
    faulty.replies_left = None
    assert await store.get(ALICE) == entry
    await store.close()


async def test_a_read_given_up_leaves_nobody_the_wrong_value(faulty: Proxy) -> None:
    """Long and short values over few connections, most callers without the time to wait."""
    store = store_behind(faulty, max_connections=2)
    entries: dict[StateKey, Entry] = {}
    for number in range(8):
        key = StateKey(f"user {number}", FINGERPRINT)
        payload = bytes([number]) * (len(LONG) if number % 2 else 50)
        entries[key] = make_entry(key, payload)
        assert await put(store, key, entries[key])
    times = random.Random(1)
    outcomes = set[bool]()

    async def read(key: StateKey) -> None:
        try:
            found = await store.get(key, timeout_s=times.choice([0.0, 0.0005, 0.001, 0.002, 5.0]))
        except StoreUnavailable:
            outcomes.add(False)
        else:
            assert found == entries[key]
            outcomes.add(True)

    with anyio.fail_after(NO_HANG_S):
        for _ in range(40):
            await asyncio.gather(*map(read, entries))
    assert outcomes == {True, False}
    await store.close()


@pytest.mark.parametrize("options", ["", "?protocol=3", "?decode_responses=true", "?db=1"])
async def test_options_of_the_url_change_no_value(
    spare_redis_server: RedisServer, options: str
) -> None:
    url = f"redis://127.0.0.1:{spare_redis_server.port}{options}"
    client = RedisClient.from_url(url, timeout_s=10.0, max_connections=1)

    async def use(session: Session) -> list[Any]:
        replies = []
        for value in (LONG, b"short"):
            replies += await session.call(("SET", "k", value), ("GET", "k"))
        return replies + await session.call(("GET", "k"), ("UNLINK", "k"), ("GET", "k"))

    assert await client.run("k", use) == [b"OK", LONG, b"OK", b"short", b"short", 1, None]
    await client.close()
