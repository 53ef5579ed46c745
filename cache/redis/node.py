"""Owns the connections to one Redis server, and whether it is asked. Never knows which one to ask.

Commands are packed and replies read here, below redis-py's client: a compare-and-set then takes
two round trips instead of three, and whatever goes wrong or is cancelled, the connection closes.
That holds for a cancelled greeting too, which redis-py's own pool would hand to the next caller.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from redis import exceptions

from cache.breaker import Breaker, BreakerState
from cache.redis.replies import require_sound
from cache.redis.timeouts import heard_out
from cache.redis.url import Access, Address

T = TypeVar("T")
Command = tuple[str | bytes | int, ...]

_PIECE_BYTES: Final = 1 << 20
"""What is handed to a connection at once. Asyncio copies all of it into its buffer, and moves the
rest at every step of sending: more than twice the time for 8 MB, with the event loop stopped."""

_PATIENCE: Final = 0.25
"""The share of the timeout after which an attempt given up counts as one that got no answer."""


class PoolBusy(exceptions.ConnectionError):
    """No connection came free in time: our own limit, it says nothing about the server."""


class Skipped(exceptions.ConnectionError):
    """The breaker is open; the message is that of the last failure."""


class Failed(Exception):
    """A server did not do what it was asked. `sent` unless it can not have seen the commands."""

    def __init__(self, address: Address, error: Exception, *, sent: bool) -> None:
        self.address, self.error, self.sent = address, error, sent


@dataclass(frozen=True, slots=True)
class Session:
    """A connection while one caller has it. Raises redis-py's errors.

    `asking` is for a slot that a cluster's node is about to take over: it answers commands on it
    only after ASKING, which holds for one command, or for one transaction.
    """

    connection: Any
    asking: bool = False

    async def call(self, *commands: Command) -> list[Any]:
        """The replies to commands that travel together; see `_exchange`."""
        pack = self.connection.pack_commands
        if self.asking:
            pairs = [part for command in commands for part in (("ASKING",), command)]
            replies = (await self._exchange(pack(pairs), len(pairs)))[1::2]
        else:
            replies = await self._exchange(pack(commands), len(commands))
        for command, reply in zip(commands, replies, strict=True):
            require_sound(str(command[0]), reply)
        return replies

    async def transaction(self, packed: Sequence[bytes | memoryview]) -> bool:
        """Whether a packed command was carried out: not if a watched key had changed."""
        before: tuple[Command, ...] = (("ASKING",), ("MULTI",)) if self.asking else (("MULTI",),)
        pack = self.connection.pack_commands
        whole = (*pack(before), *packed, *pack([("EXEC",)]))
        *_, done = await self._exchange(whole, len(before) + 2)
        require_sound("EXEC", done)
        if done and isinstance(done[0], Exception):
            raise done[0]
        return done is not None

    async def _send(self, packed: Sequence[bytes | memoryview]) -> None:
        """Long values go piece by piece, as the socket takes them."""
        together: list[bytes | memoryview] = []
        for part in packed:
            for start in range(0, len(part), _PIECE_BYTES):
                together.append(memoryview(part)[start : start + _PIECE_BYTES])
                if len(part) > _PIECE_BYTES:
                    await self.connection.send_packed_command(together)
                    together = []
        await self.connection.send_packed_command(together)

    async def _exchange(self, packed: Sequence[bytes | memoryview], num_replies: int) -> list[Any]:
        """The replies to packed commands; bytes stay bytes, whatever decoding the URL asks for.

        A reply that the key holds another type of value is None: nothing of ours is there.
        """
        replies: list[Any] = []
        with _GARBLED:
            await self._send(packed)
            for _ in range(num_replies):
                try:
                    replies.append(await self.connection.read_response(disable_decoding=True))
                except exceptions.ResponseError as error:
                    if not str(error).startswith("WRONGTYPE"):
                        raise
                    replies.append(None)
        return replies


class Node:
    """One server: a bounded number of connections, each opened at first use, and a breaker."""

    def __init__(
        self,
        address: Address,
        access: Access,
        on_breaker: Callable[[Address, BreakerState, BreakerState], None],
    ) -> None:
        self.address = address
        self._access = access
        self._breaker = Breaker(lambda before, after: on_breaker(address, before, after))
        self._free = asyncio.Semaphore(access.max_connections)
        self._idle: list[Any] = []
        self._closed = False
        self._last_error = ""

    @property
    def is_skipped(self) -> bool:
        return self._breaker.state is not BreakerState.CLOSED

    async def run(self, operation: Callable[[Session], Awaitable[T]], *, asking: bool = False) -> T:
        """What the operation returns, over a connection that it has for itself.

        What else it raises is its own bug: it passes, and says nothing about the server.

        Raises:
            Failed: it could not be carried out, or not to the end.
        """
        ticket = self._breaker.admit()
        if ticket is None:
            raise Failed(self.address, Skipped(self._last_error), sent=False)
        works: bool | None = None
        sent = False
        began_s = math.inf
        try:
            await self._take_slot()
            try:
                began_s = time.monotonic()
                connection = await self._connect()
                sent = True
                result = await self._carry_out(operation, Session(connection, asking))
            finally:
                self._free.release()
        except asyncio.CancelledError:
            # Callers that all have little time must not keep a silent server from being left alone.
            if time.monotonic() - began_s >= _PATIENCE * self._access.wait_s:
                works, self._last_error = False, "no answer"
            raise
        except exceptions.DataError:
            raise  # Of what was to be sent.
        except (exceptions.RedisError, OSError) as error:
            works, self._last_error = _works(error), str(error)
            raise Failed(self.address, error, sent=sent) from None
        else:
            works = True
            return result
        finally:
            self._breaker.report(ticket, works)

    async def close(self) -> None:
        """Connections in use close when they are given back."""
        self._closed = True
        while self._idle:
            with suppress(exceptions.RedisError, OSError):
                await self._idle.pop().disconnect()

    async def _take_slot(self) -> None:
        if not self._free.locked():
            await self._free.acquire()  # which is at once
            return
        try:
            async with heard_out(self._access.wait_s):
                await self._free.acquire()
        except TimeoutError:
            raise PoolBusy(f"all {self._access.max_connections} connections are busy") from None

    async def _connect(self) -> Any:
        """A connection that is ready; anew if the server has closed it while it was idle."""
        connection = self._idle.pop() if self._idle else self._access.connection(self.address)
        try:
            with _GARBLED:
                if not connection.is_connected:
                    await connection.connect()
                if await _is_stale(connection):
                    await connection.disconnect(nowait=True)
                    await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _carry_out(self, operation: Callable[[Session], Awaitable[T]], session: Session) -> T:
        connection = session.connection
        try:
            result = await operation(session)
        except BaseException:
            # Replies may be under way, and must not reach the next caller.
            await connection.disconnect(nowait=True)
            raise
        if self._closed:
            await connection.disconnect(nowait=True)
        else:
            self._idle.append(connection)
        return result


async def _is_stale(connection: Any) -> bool:
    # Its name changed in redis-py 8.
    can_read = getattr(connection, "can_read", None) or connection.can_read_destructive
    try:
        return bool(await can_read())
    except (exceptions.RedisError, OSError):
        return True


class _Garbled:
    """Around redis-py alone: what it raises of a garbled reply can be anything."""

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, exceptions.RedisError | OSError):
            raise exceptions.InvalidResponse(f"{type(error).__name__}: {error}") from error


_GARBLED: Final = _Garbled()


def _works(error: Exception) -> bool | None:
    """Whether a server is fine that an attempt ended with: an error reply is an answer."""
    if isinstance(error, PoolBusy):
        return None
    return isinstance(error, exceptions.ResponseError)
