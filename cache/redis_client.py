"""Owns connections to one Redis server and what its errors mean. Never knows what a state is.

Commands are packed and replies read here, below redis-py's client: a compare-and-set then takes
two round trips instead of three, and whatever goes wrong or is cancelled, the connection closes.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from redis import exceptions
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from cache.store import StoreUnavailable

_READ_BYTES: Final = 1 << 20
_REACHABLE: Final = "check that it runs and that the URL names its host and port"
# The first match wins, so subclasses stand before their bases.
_ADVICE: Final[tuple[tuple[type[Exception], str], ...]] = (
    (exceptions.AuthenticationError, "check the user name and password in the URL"),
    (exceptions.NoPermissionError, "check the rights of the URL's user on mf:* keys"),
    (exceptions.OutOfMemoryError, "set maxmemory-policy to allkeys-lru, so that it evicts"),
    (exceptions.ReadOnlyError, "point the URL at the primary, this is a replica"),
    (exceptions.AskError, "point the URL at a standalone server, this is a cluster's node"),
    (exceptions.TimeoutError, "check its load and the network, or raise the timeout"),
    (exceptions.ConnectionError, _REACHABLE),
    (exceptions.ResponseError, "check that it is Redis 6.2 or newer, or Valkey"),
)


@dataclass(frozen=True, slots=True)
class Session:
    """A connection while one caller has it. Raises redis-py's errors."""

    connection: Any

    async def call(self, *commands: tuple[str | int | bytes, ...]) -> list[Any]:
        """The replies to commands that travel together; see `exchange`."""
        return await self.exchange(self.connection.pack_commands(commands), len(commands))

    async def exchange(self, packed: Sequence[bytes | memoryview], num_replies: int) -> list[Any]:
        """The replies to packed commands; bytes stay bytes, whatever decoding the URL asks for.

        A reply that the key holds another type of value is None: nothing of ours is there.
        """
        await self.connection.send_packed_command(packed)
        replies: list[Any] = []
        for _ in range(num_replies):
            try:
                replies.append(await self.connection.read_response(disable_decoding=True))
            except exceptions.ResponseError as error:
                if not str(error).startswith("WRONGTYPE"):
                    raise
                replies.append(None)
        return replies


class RedisClient:
    """A pool of connections, each opened at first use."""

    def __init__(self, pool: BlockingConnectionPool) -> None:
        self._pool: Any = pool

    @classmethod
    def from_url(cls, url: str, *, timeout_s: float, max_connections: int) -> "RedisClient":
        """Raises ValueError for a malformed URL, without quoting it.

        `timeout_s` bounds the wait for a free connection, each write and each reply; connecting
        may take twice as long. Options in the URL's query win over these arguments.
        """
        try:
            if not _is_well_formed(url):
                raise ValueError
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=max_connections,
                timeout=timeout_s,
                socket_timeout=timeout_s,
                socket_connect_timeout=2 * timeout_s,
                socket_read_size=_READ_BYTES,
                # A refused connection is worth a second try; a timeout has used up the budget.
                retry=Retry(NoBackoff(), 1, (exceptions.ConnectionError,)),
                # RESP2 needs no greeting, so connecting saves a round trip.
                protocol=2,
            )
            # No I/O; an unknown option is refused here and not at the first use.
            pool.connection_class(**pool.connection_kwargs)
        except (ValueError, TypeError, exceptions.RedisError):
            raise ValueError(
                "malformed Redis URL: use redis://[[user]:password@]host[:port][/db], "
                "rediss://... for TLS, or unix:///path/to/socket[?db=0], "
                "with special characters of user and password percent-encoded"
            ) from None
        return cls(pool)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """A connection for one exchange; redis-py's errors leave as StoreUnavailable."""
        try:
            connection = await self._pool.get_connection()
            try:
                yield Session(connection)
            except BaseException:
                # Replies may be under way, and must not reach the next caller.
                await connection.disconnect(nowait=True)
                raise
            finally:
                await asyncio.shield(self._pool.release(connection))
        except (exceptions.RedisError, OSError) as error:
            # The cause is not chained: a server may echo the password of a refused AUTH.
            raise StoreUnavailable(self._explain(error)) from None

    async def close(self) -> None:
        with suppress(exceptions.RedisError, OSError):
            await self._pool.aclose()

    def _explain(self, error: Exception) -> str:
        options = self._pool.connection_kwargs
        tcp = f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
        reason = str(error)
        for secret in (options.get("username"), options.get("password")):
            reason = reason.replace(secret, "***") if secret else reason
        advice = next((text for kind, text in _ADVICE if isinstance(error, kind)), _REACHABLE)
        if isinstance(error.__cause__, TimeoutError):  # The pool's way to say that it is empty.
            advice = f"all {self._pool.max_connections} connections are busy, allow more"
        return f"Redis at {options.get('path', tcp)} is unavailable: {advice} ({reason[:200]})"


def _is_well_formed(url: str) -> bool:
    parts = urlsplit(url)
    path = parts.path.strip("/")
    if parts.scheme == "unix":
        return bool(path) and not parts.hostname
    return parts.scheme in ("redis", "rediss") and (not path or path.isdecimal())
