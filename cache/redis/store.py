"""Owns states held in Redis or Valkey, one string per state. Never handles their sockets."""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from functools import partial

from redis import exceptions

from cache.header import DIGEST_BYTES, HEADER_BYTES, LINEAGE_BYTES, Header, new_lineage
from cache.keys import StateKey
from cache.redis.client import BreakerChange, RedisClient, ignore_change
from cache.redis.memory_policy import MemoryPolicy, read_policy
from cache.redis.node import Command, Session
from cache.store import (
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

_BEGUN_S = 600
"""How long a key is kept that was begun: longer than any request goes on between load and write,
and short, as most who only ask for an unknown user never write."""

_SCAN_KEYS = 1000
"""Keys looked at in one step of a scan; a server answers nobody else meanwhile."""

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
    """A `StateStore` in Redis, shared by all replicas of the service.

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
        command = ("GETEX", key.name, "EX", self._ttl_s)
        value = await self._client.read(key.name, command, timeout_s=timeout_s)
        return read_entry(value, key) if isinstance(value, bytes | memoryview) else None

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
            begin = ("SET", name, lineage, "NX", "EX", min(_BEGUN_S, self._ttl_s))
            try:
                value, begun = await session.call(renewed, begin)
            except exceptions.OutOfMemoryError:
                # What a full server holds can be read all the same.
                (value,) = await session.call(renewed)
                if value is None:
                    raise
                begun = None
            found = read_found(value, key)
            return found or (Found(lineage) if begun else await self._clear(session, key, lineage))

        return await self._client.run(name, look, is_read=True, timeout_s=timeout_s)

    async def _clear(self, session: Session, key: StateKey, lineage: bytes) -> Found:
        """Begin in the place of a value that is nothing, unless another has by now."""
        name = key.name
        _, value = await session.call(("WATCH", name), ("GET", name))
        found = read_found(value, key)
        if found is not None:
            await session.call(("UNWATCH",))
            return found
        # Whoever loses here has a lineage that is not held: what it writes will be refused.
        await session.transaction(_pack_set(name, (lineage,), min(_BEGUN_S, self._ttl_s)))
        return Found(lineage)

    async def put(self, key: StateKey, entry: Entry, *, timeout_s: float | None = None) -> bool:
        require_owner(key, entry.header)
        name = key.name

        async def compare_and_set(session: Session) -> bool:
            _, head = await session.call(("WATCH", name), ("GETRANGE", name, 0, HEADER_BYTES - 1))
            if not is_followed(head or b"", entry.header):
                await session.call(("UNWATCH",))
                return False
            pieces = (entry.header.pack(), entry.payload)
            return await session.transaction(_pack_set(name, pieces, self._ttl_s))

        return await self._client.run(name, compare_and_set, timeout_s=timeout_s)

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
        require_owner(key, entry.header)
        origin = replace(key, fingerprint=source.fingerprint)

        async def compare_and_set(session: Session) -> bool:
            _, held, head = await session.call(
                ("WATCH", key.name, origin.name),
                ("GETRANGE", key.name, 0, HEADER_BYTES - 1),
                ("GETRANGE", origin.name, 0, HEADER_BYTES - 1),
            )
            if head != source.pack() or not is_followed(held or b"", entry.header):
                await session.call(("UNWATCH",))
                return False
            pieces = (entry.header.pack(), entry.payload)
            return await session.transaction(_pack_set(key.name, pieces, max(1, ttl_s)))

        return await self._client.run(key.name, compare_and_set)

    async def delete(self, key: StateKey, *, timeout_s: float | None = None) -> bool:
        async def forget(session: Session) -> bool:
            """No index of a user's keys could be evicted or fall behind; to forget is rare."""
            # A slot that moves tells where its key is; a scan would not.
            num_states = await _unlink(session, [key.name])
            # Until a scan finds nothing: one key may have been made from another behind its cursor.
            while names := await _scan_all(session, key.pattern):
                num_states += await _unlink(session, names)
            return bool(num_states)

        return await self._client.run(key.name, forget, timeout_s=timeout_s)

    async def look(self, key: StateKey, *, timeout_s: float | None = None) -> Held | None:
        async def look(session: Session) -> list[Held]:
            return await _look(session, [key])

        found = await self._client.run(key.name, look, is_read=True, timeout_s=timeout_s)
        return found[0] if found else None

    async def scan(self, user_id: str | None = None) -> AsyncGenerator[Held, None]:
        """What is held of everybody, or of one user under every model; renews nothing.

        States that come or go meanwhile may be missed. Raises StoreUnavailable.
        """
        one = None if user_id is None else StateKey(user_id, bytes(DIGEST_BYTES))
        pattern = one.pattern if one else StateKey.pattern_of_all()
        for server in await self._client.servers(one.name if one else None):
            cursor, seen = "0", set[StateKey]()
            while True:
                step = partial(_scan_states, cursor=cursor, pattern=pattern)
                cursor, found = await self._client.run_at(server, step)
                for held in found:
                    # A server may tell a key twice while it resizes its tables.
                    if held.key not in seen:
                        seen.add(held.key)
                        yield held
                if cursor == "0":
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


async def _scan(session: Session, cursor: str, pattern: str) -> tuple[str, list[bytes]]:
    """The next cursor, and the names of one step."""
    command = ("SCAN", cursor, "MATCH", pattern, "COUNT", _SCAN_KEYS)
    ((following, names),) = await session.call(command)
    return following.decode(), names


async def _scan_states(session: Session, cursor: str, pattern: str) -> tuple[str, list[Held]]:
    """The next cursor, and what is held among the keys of this step."""
    following, names = await _scan(session, cursor, pattern)
    keys = [key for key in map(StateKey.parse, names) if key]
    return following, await _look(session, keys)


async def _look(session: Session, keys: Sequence[StateKey]) -> list[Held]:
    """Of each key that holds a state of its own: one round trip for all of them."""
    looks: list[Command] = []
    for key in keys:
        looks += [("GETRANGE", key.name, 0, HEADER_BYTES - 1), ("TTL", key.name)]
    replies = await session.call(*looks) if looks else []
    found = []
    for key, value, ttl_s in zip(keys, replies[::2], replies[1::2], strict=True):
        header = Header.unpack(value or b"")
        if header and is_owned(header, key):
            found.append(Held(key, header, ttl_s if ttl_s >= 0 else None))
    return found


async def _scan_all(session: Session, pattern: str) -> list[bytes]:
    cursor, found = await _scan(session, "0", pattern)
    while cursor != "0":
        cursor, names = await _scan(session, cursor, pattern)
        found += names
    return found


async def _unlink(session: Session, names: Sequence[str | bytes]) -> int:
    """How many states went; keys that were only begun do not count."""
    *sizes, _ = await session.call(*(("STRLEN", name) for name in names), ("UNLINK", *names))
    return sum(size is None or size > LINEAGE_BYTES for size in sizes)


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
