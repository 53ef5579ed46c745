"""What answers like no Redis is a miss; and a bug of ours is neither a miss nor an outage."""

import asyncio
from contextlib import suppress

import pytest
import redis

from cache import RedisStore, StoreUnavailable
from cache.breaker import NUM_FAILURES
from cache.redis.client import RedisClient
from cache.redis.node import Session
from tests.cache.entries import ALICE, BOB, TTL_S, make_entry, put
from tests.cache.operations import OPERATIONS
from tests.cache.waiting import NO_HANG_S, until

pytestmark = pytest.mark.anyio

REPLIES = [b":5", b"+OK", b"$-1", b"*-1", b"*0", b"*1\r\n:1", b"$3\r\nabc", b"-ERR no", b"rubbish"]


REPLIES += [b"-MOVED", b"-MOVED 1", b"-MOVED 1 :x", b"-ASK 1 nowhere", b"-MOVED 1 127.0.0.1:1"]


REPLIES += [b"-NOAUTH", b"\x00", b"*1\r\n*0", b"*1\r\n$1\r\nx"]


REPLIES += [  # What a step of a scan, an address, slots and INFO are not
    b"*2\r\n$1\r\nx\r\n*0",
    b"*2\r\n:0\r\n*0",
    b"*2\r\n$1\r\n0\r\n*1\r\n:5",
    b"*2\r\n$1\r\n0\r\n*1\r\n$1\r\n\xff",
    b"*2\r\n$1\r\n\xff\r\n$1\r\n1",
    b"*2\r\n$9\r\n127.0.0.1\r\n$5\r\n99999",
    b"*3\r\n:0\r\n:16383\r\n*1\r\n$1\r\nh",
    b"*1\r\n*3\r\n:0\r\n:9\r\n*0",
    b"*1\r\n*3\r\n:0\r\n:9\r\n*2\r\n$1\r\n\xff\r\n:1",
    b"*1\r\n*3\r\n:0\r\n:9\r\n*2\r\n$-1\r\n:99999",
    b"*1\r\n*3\r\n:0\r\n:9999999999\r\n*2\r\n$1\r\nh\r\n:1",
    b"*1\r\n*3\r\n:-9\r\n:9\r\n*2\r\n$1\r\nh\r\n:1",
    b"$34\r\nmaxmemory:-\xff\r\nmaxmemory_policy:-",
]


@pytest.mark.parametrize("reply", REPLIES)
@pytest.mark.parametrize("kind", ["redis://{}", "redis+cluster://{}", "redis+sentinel://{}/main"])
async def test_whatever_a_server_answers_is_a_miss(kind: str, reply: bytes) -> None:
    """Nothing but StoreUnavailable leaves the store, and no state but a whole one is found."""

    open_writers = set[asyncio.StreamWriter]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_writers.add(writer)
        with suppress(OSError):
            while await reader.read(1 << 16):
                writer.write((reply + b"\r\n") * 3)
        writer.close()
        open_writers.remove(writer)

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for name, operation in OPERATIONS.items():
            # One each, so that no breaker stands before the later operations.
            store = RedisStore.from_url(kind.format(address), ttl_s=TTL_S, timeout_s=0.1)
            for _ in range(2):
                with suppress(StoreUnavailable):
                    found = await operation(store)
                    assert found is None or name not in ("get", "head", "peek", "look", "scan")
            await store.close()
        await until(lambda: not open_writers)


@pytest.mark.parametrize("timeout_s", [None, NO_HANG_S])
async def test_a_bug_is_no_outage_and_leaves_no_reply_behind(
    redis_url: str, timeout_s: float | None
) -> None:
    client = RedisClient.from_url(redis_url, timeout_s=NO_HANG_S, max_connections=1)
    store = RedisStore(client, ttl_s=TTL_S)
    await put(store, ALICE, make_entry(ALICE))

    async def typing_error(session: Session) -> None:
        connection = session.connection
        await connection.send_packed_command(connection.pack_commands([("GET", ALICE.name)]))
        raise NameError("name 'undefined' is not defined")

    async def no_command(session: Session) -> None:
        await session.call(("GET", None))  # type: ignore[arg-type]

    for bug, raised in ((typing_error, NameError), (no_command, redis.DataError)):
        for _ in range(NUM_FAILURES):
            with pytest.raises(raised):
                await client.run(ALICE.name, bug, is_read=True, timeout_s=timeout_s)
            with pytest.raises(raised):
                await client.everywhere(bug)
            assert await store.get(BOB) is None
    assert client.num_skipped == 0
    await store.close()
