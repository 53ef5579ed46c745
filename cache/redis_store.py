"""Owns states held in Redis or Valkey, one string per state. Never handles their sockets."""

from cache.header import HEADER_BYTES, Header
from cache.keys import StateKey
from cache.redis_client import RedisClient
from cache.store import Append, Entry, is_owned, may_replace, read_entry, require_owner

_MAX_SCRIPT_BYTES = 1 << 18
"""Scripts move bytes several times slower than SET does; longer tails are written whole."""

_APPEND = """
if redis.pcall('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) ~= ARGV[1]
  or redis.call('STRLEN', KEYS[1]) ~= tonumber(ARGV[4]) then return 0 end
redis.call('SETRANGE', KEYS[1], 0, ARGV[2])
redis.call('APPEND', KEYS[1], ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[5])
return 1
"""
"""Compare-and-append in one round trip; a script runs as a whole, or not at all."""


class RedisStore:
    """A `StateStore` in one Redis server, shared by all replicas of the service.

    Raises ValueError for a `ttl_s` below 1.
    """

    tier = "redis"

    def __init__(self, client: RedisClient, *, ttl_s: int) -> None:
        if ttl_s < 1:
            raise ValueError("ttl_s must be at least 1")
        self._client = client
        self._ttl_s = ttl_s

    @classmethod
    def from_url(
        cls, url: str, *, ttl_s: int, timeout_s: float = 0.05, max_connections: int = 16
    ) -> "RedisStore":
        """A store that connects at first use, to `redis://`, `rediss://` or `unix://`.

        `timeout_s` bounds the wait for a free connection, each write and each reply; connecting
        may take twice as long. Options in the URL's query win over these arguments. Raises
        ValueError for a malformed URL, without quoting it.
        """
        client = RedisClient.from_url(url, timeout_s=timeout_s, max_connections=max_connections)
        return cls(client, ttl_s=ttl_s)

    async def get(self, key: StateKey) -> Entry | None:
        async with self._client.session() as session:
            (value,) = await session.call(("GETEX", key.name, "EX", self._ttl_s))
        return None if value is None else read_entry(value, key)

    async def put(self, key: StateKey, entry: Entry) -> bool:
        require_owner(key, entry.header)
        name = key.name
        async with self._client.session() as session:
            _, head = await session.call(("WATCH", name), ("GETRANGE", name, 0, HEADER_BYTES - 1))
            held = Header.unpack(head or b"")
            if held and is_owned(held, key) and not may_replace(held, entry.header):
                # The header may stand before a corrupt payload, which must not block writers.
                (value,) = await session.call(("GET", name))
                if value is not None and read_entry(value, key) is not None:
                    await session.call(("UNWATCH",))
                    return False
            pack = session.connection.pack_command
            transaction = (*pack("MULTI"), *_pack_set(name, entry, self._ttl_s), *pack("EXEC"))
            *_, done = await session.exchange(transaction, num_replies=3)
        return done is not None

    async def append(self, key: StateKey, append: Append) -> bool:
        require_owner(key, append.header)
        if len(append.data) > _MAX_SCRIPT_BYTES:
            return False
        held, header = append.held.pack(), append.header.pack()
        arguments = (held, header, append.data, len(held) + append.held.payload_bytes, self._ttl_s)
        async with self._client.session() as session:
            (done,) = await session.call(("EVAL", _APPEND, 1, key.name, *arguments))
        return bool(done)

    async def head(self, key: StateKey) -> Header | None:
        name = key.name
        async with self._client.session() as session:
            value, _ = await session.call(
                ("GETRANGE", name, 0, HEADER_BYTES - 1), ("EXPIRE", name, self._ttl_s)
            )
        header = Header.unpack(value or b"")
        return header if header and is_owned(header, key) else None

    async def delete(self, key: StateKey) -> bool:
        async with self._client.session() as session:
            (num_deleted,) = await session.call(("UNLINK", key.name))
        return bool(num_deleted)

    async def ttl_seconds(self, key: StateKey) -> int | None:
        async with self._client.session() as session:
            (seconds,) = await session.call(("TTL", key.name))
        return int(seconds) if seconds >= 0 else None

    async def ping(self) -> None:
        async with self._client.session() as session:
            await session.call(("PING",))

    async def close(self) -> None:
        await self._client.close()


def _pack_set(name: str, entry: Entry, ttl_s: int) -> tuple[bytes | memoryview, ...]:
    """SET in the Redis protocol, the payload a piece of its own.

    redis-py takes a value in one piece, and joining the header to an 8 MB payload keeps the event
    loop longer than sending it.
    """
    head = b"*5\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b" % (
        len(name),
        name.encode("ascii"),
        entry.num_bytes,
        entry.header.pack(),
    )
    return head, entry.payload, b"\r\n$2\r\nEX\r\n$%d\r\n%d\r\n" % (len(str(ttl_s)), ttl_s)
