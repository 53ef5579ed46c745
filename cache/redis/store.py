"""Owns states held in Redis or Valkey, one string per state. Never handles their sockets."""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from functools import partial

from redis import exceptions

from cache.header import HEADER_BYTES, LINEAGE_BYTES, Buffer, Header, new_lineage
from cache.keys import StateKey
from cache.redis.client import BreakerChange, RedisClient, ignore_change
from cache.redis.keyspace import FIRST, all_names, look, scan_states, unlink
from cache.redis.memory_policy import MemoryPolicy, read_policy
from cache.redis.node import Session
from cache.store import (
    BEGUN_S,
    Append,
    Entry,
    Found,
    Held,
    is_followed,
    is_owned,
    read_entry,
    read_found,
    require_owner,
)

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

_EXPIRE_BEGUN = """
if redis.call('STRLEN', KEYS[1]) == tonumber(ARGV[1]) then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
end
"""
"""What was only begun when it was read may be a state by now."""


class RedisStore:
    """A `StateStore` in Redis, shared by all replicas of the service.

    Raises ValueError for a `ttl_s` below 1.
    """

    tier = "redis"

    def __init__(self, client: RedisClient, *, ttl_s: int) -> None:
        if ttl_s < 1:
            raise ValueError("ttl_s must be at least 1")
        self._client = client
        self._ttl_s = ttl_s
        self._begun_s = min(BEGUN_S, ttl_s)

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        ttl_s: int,
        timeout_s: float = 0.05,
        max_connections: int = 16,
        on_breaker: Callable[[BreakerChange], None] = ignore_change,
    ) -> "RedisStore":
        """A store that connects at first use; `cache.redis.url` has the forms of the URL.

        `timeout_s` bounds the wait for a free connection, each write and each reply; connecting
        may take twice as long. Options in the URL's query win over these arguments. `on_breaker`
        is told when a server that keeps failing is not asked any more, and when it is again.
        Raises ValueError for a malformed URL, without quoting it.
        """
        client = RedisClient.from_url(
            url, timeout_s=timeout_s, max_connections=max_connections, on_breaker=on_breaker
        )
        return cls(client, ttl_s=ttl_s)

    @property
    def num_skipped_servers(self) -> int:
        """Servers that are not asked for now, because they kept failing."""
        return self._client.num_skipped

    async def get(self, key: StateKey, *, timeout_s: float | None = None) -> Entry | None:
        async def read(session: Session) -> Entry | None:
            (value,) = await session.call(("GETEX", key.name, "EX", self._ttl_s))
            await self._renewed(session, key, value)
            return read_entry(value or b"", key)

        return await self._client.run(key.name, read, is_read=True, timeout_s=timeout_s)

    async def load(
        self,
        key: StateKey,
        *,
        timeout_s: float | None = None,
        draw: Callable[[], bytes] = new_lineage,
    ) -> Found:
        name = key.name
        renewed = ("GETEX", name, "EX", self._ttl_s)

        async def look(session: Session) -> Found:
            # Drawn for each attempt: after a lost connection nobody knows what became of the first.
            lineage = draw()
            begin = ("SET", name, lineage, "NX", "EX", self._begun_s)
            try:
                value, begun = await session.call(renewed, begin)
            except exceptions.OutOfMemoryError:
                # What a full server holds can be read all the same.
                (value,) = await session.call(renewed)
                if value is None:
                    raise
                begun = None
            await self._renewed(session, key, value)
            found = read_found(value, key)
            return found or (Found(lineage) if begun else await self._clear(session, key, lineage))

        return await self._client.run(name, look, is_read=True, timeout_s=timeout_s)

    async def _renewed(self, session: Session, key: StateKey, start: Buffer | None) -> None:
        """Take back what a use gave to a key that starts like this, if it is only begun."""
        if start is not None and len(start) == LINEAGE_BYTES:
            expire = ("EVAL", _EXPIRE_BEGUN, 1, key.name, LINEAGE_BYTES, self._begun_s)
            await session.call(expire)

    async def _clear(self, session: Session, key: StateKey, lineage: bytes) -> Found:
        """Begin in the place of a value that is nothing, unless another has by now."""
        name = key.name
        _, value = await session.call(("WATCH", name), ("GET", name))
        found = read_found(value, key)
        if found is not None:
            await session.call(("UNWATCH",))
            return found
        # Whoever loses here has a lineage that is not held: what it writes will be refused.
        await session.transaction(_pack_set(name, (lineage,), self._begun_s))
        return Found(lineage)

    async def put(self, key: StateKey, entry: Entry, *, timeout_s: float | None = None) -> bool:
        return await self._compare_and_set(key, entry, self._ttl_s, timeout_s=timeout_s)

    async def append(
        self, key: StateKey, append: Append, *, timeout_s: float | None = None
    ) -> bool:
        require_owner(key, append.header)
        if len(append.data) > _MAX_SCRIPT_BYTES:
            return False
        held, header = append.held.pack(), append.header.pack()
        length = len(held) + append.held.payload_bytes
        arguments = (key.name, held, header, append.data, length, self._ttl_s)

        async def compare_and_append(session: Session) -> bool:
            (done,) = await session.call(("EVAL", _APPEND, 1, *arguments))
            return bool(done)

        return await self._client.run(key.name, compare_and_append, timeout_s=timeout_s)

    async def head(self, key: StateKey, *, timeout_s: float | None = None) -> Header | None:
        name = key.name

        async def look(session: Session) -> Header | None:
            value, _ = await session.call(
                ("GETRANGE", name, 0, HEADER_BYTES - 1), ("EXPIRE", name, self._ttl_s)
            )
            await self._renewed(session, key, value)
            header = Header.unpack(value or b"")
            return header if header and is_owned(header, key) else None

        return await self._client.run(name, look, is_read=True, timeout_s=timeout_s)

    async def peek(self, key: StateKey) -> tuple[Entry, int] | None:
        """The state and its seconds to live, which are not renewed; None as `get`."""

        async def read(session: Session) -> tuple[Entry, int] | None:
            value, ttl_s = await session.call(("GET", key.name), ("TTL", key.name))
            entry = read_entry(value or b"", key)
            return (entry, ttl_s) if entry and ttl_s >= 0 else None

        return await self._client.run(key.name, read, is_read=True)

    async def derive(self, key: StateKey, entry: Entry, source: Header, *, ttl_s: int) -> bool:
        """Put, to live for `ttl_s`, what was made of the user's state under another model.

        False, and nothing was changed, also if that state has another header than `source` by now
        or is gone.
        """
        return await self._compare_and_set(key, entry, max(1, ttl_s), source)

    async def _compare_and_set(
        self,
        key: StateKey,
        entry: Entry,
        ttl_s: int,
        source: Header | None = None,
        *,
        timeout_s: float | None = None,
    ) -> bool:
        """Put, while the user's state under the model of `source`, if given, has that header."""
        require_owner(key, entry.header)
        sources = [source] if source else []
        watched = [key.name, *(replace(key, fingerprint=s.fingerprint).name for s in sources)]

        async def compare_and_set(session: Session) -> bool:
            heads = [("GETRANGE", name, 0, HEADER_BYTES - 1) for name in watched]
            _, held, *origin = await session.call(("WATCH", *watched), *heads)
            as_expected = origin == [header.pack() for header in sources]
            if not as_expected or not is_followed(held or b"", entry.header):
                await session.call(("UNWATCH",))
                return False
            pieces = (entry.header.pack(), entry.payload)
            return await session.transaction(_pack_set(key.name, pieces, ttl_s))

        return await self._client.run(key.name, compare_and_set, timeout_s=timeout_s)

    async def delete(self, key: StateKey, *, timeout_s: float | None = None) -> bool:
        # A slot that moves tells where its key is; a scan would not.
        return await self._forget(key.user_id, [key.name], timeout_s)

    async def forget(self, user_id: str) -> bool:
        """As `delete`, for those who know of no model."""
        return await self._forget(user_id, [])

    async def _forget(
        self, user_id: str, known: Sequence[str], timeout_s: float | None = None
    ) -> bool:
        """No index of a user's keys could be evicted or fall behind; to forget is rare."""
        pattern = StateKey.pattern_of(user_id)

        async def forget(session: Session) -> bool:
            num_states = await unlink(session, known) if known else 0
            # Until a scan finds nothing: one key may have been made from another behind its cursor.
            while names := await all_names(session, pattern):
                num_states += await unlink(session, names)
            return bool(num_states)

        return await self._client.run(pattern, forget, timeout_s=timeout_s)

    async def look(self, key: StateKey, *, timeout_s: float | None = None) -> Held | None:
        one = partial(look, keys=[key])
        found = await self._client.run(key.name, one, is_read=True, timeout_s=timeout_s)
        return found[0] if found else None

    async def scan(self, user_id: str | None = None) -> AsyncGenerator[Held, None]:
        """What is held of everybody, or of one user under every model; renews nothing.

        States that come or go meanwhile may be missed. Raises StoreUnavailable.
        """
        pattern = StateKey.pattern_of_all() if user_id is None else StateKey.pattern_of(user_id)
        for server in await self._client.servers(None if user_id is None else pattern):
            cursor, seen = FIRST, set[StateKey]()
            while True:
                step = partial(scan_states, cursor=cursor, pattern=pattern)
                cursor, found = await self._client.run_at(server, step)
                for held in found:
                    # A server may tell a key twice while it resizes its tables.
                    if held.key not in seen:
                        seen.add(held.key)
                        yield held
                if cursor == FIRST:
                    break

    async def num_keys(self) -> int:
        """Keys of all servers, whatever they hold. Raises StoreUnavailable."""
        found = await self._client.everywhere(lambda session: session.call(("DBSIZE",)))
        return sum(size for (size,) in found.values())

    async def ping(self) -> None:
        await self._client.everywhere(lambda session: session.call(("PING",)))

    async def memory_policies(self) -> dict[str, MemoryPolicy]:
        """What each server does when it is full, of those that tell. Raises StoreUnavailable."""
        found = await self._client.everywhere(read_policy)
        return {server: policy for server, policy in found.items() if policy is not None}

    async def close(self) -> None:
        await self._client.close()


def _pack_set(
    name: str, pieces: Sequence[bytes | memoryview], ttl_s: int
) -> tuple[bytes | memoryview, ...]:
    """SET in the Redis protocol, the pieces of its value as they are.

    redis-py takes a value in one piece, and joining the header to an 8 MB payload keeps the event
    loop longer than sending it.
    """
    head = b"*5\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n" % (
        len(name),
        name.encode("ascii"),
        sum(map(len, pieces)),
    )
    return head, *pieces, b"\r\n$2\r\nEX\r\n$%d\r\n%d\r\n" % (len(str(ttl_s)), ttl_s)
