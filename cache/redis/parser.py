"""Owns the way of a server's replies into memory: a long value lands where its reader gets it.

Behind redis-py's own parser is an asyncio stream: a value is copied out of the socket, into the
stream, out of it, into hiredis and out of that. Here the loop receives a long value into a buffer
of its own; hiredis reads what is short. Never sends: that stays the stream's.

How long a reply or a write may take is bounded here too, by a timer: redis-py makes a task for each
write, whose cancellation may be lost before Python 3.12, and a context for each reply.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import hiredis
from redis import exceptions
from redis._parsers import BaseParser

from cache.redis.timeouts import Timer

_CHUNK_BYTES: Final = 1 << 16
"""Received at once while no long value is under way; a value is long if it can not fit."""

_LONGEST_BYTES: Final = 1 << 29
"""A server's own bound. Whoever announces more gets no memory for it."""

_UNFINISHED: Final = object()


class DirectParser(BaseParser):
    """What redis-py's connections take as their `parser_class`; greetings go through it, too.

    A value of more than 64 KiB whose reply arrives when all before it were taken is a memoryview of
    memory that is the caller's; whatever else there is comes as hiredis reads it. Never text.
    """

    def __init__(self, socket_read_size: int, *, timeout_s: float) -> None:
        """`timeout_s` bounds each reply, and each write that the server does not take at once."""
        del socket_read_size
        self._timeout_s = timeout_s
        self._intake: Intake | None = None

    def on_connect(self, connection: Any) -> None:
        transport = connection._writer.transport
        # Redis-py 8 greets twice over a Unix socket.
        if self._intake is None or self._intake.transport is not transport:
            self._intake = Intake(transport, self.parse_error, self._timeout_s)

    def on_disconnect(self) -> None:
        if self._intake is not None:
            # To close by TLS is to wait for the server's word, and this one may hang.
            self._intake.transport.abort()
            self._intake = None

    async def can_read(self) -> bool:
        """Whether the connection is of no use: closed, or with replies that nobody asked for."""
        return self._intake is None or self._intake.is_stale

    async def can_read_destructive(self) -> bool:
        """Its name before redis-py 8."""
        return await self.can_read()

    async def read_response(
        self, disable_decoding: bool = True, push_request: bool | None = False
    ) -> Any:
        """The next reply. A server's error is returned, unless it ends the connection."""
        del disable_decoding, push_request
        if self._intake is None:
            raise exceptions.ConnectionError("not connected")
        reply = await self._intake.reply()
        if isinstance(reply, exceptions.ConnectionError):
            raise reply
        return reply


class Intake(asyncio.BufferedProtocol):
    """What one transport receives.

    It takes the place of the stream's protocol, and hands on to it what asyncio tells of sending
    and of the end.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        parse_error: Callable[[str], Exception],
        timeout_s: float,
    ) -> None:
        self.transport, self._stream = transport, transport.get_protocol()
        self._timeout_s = timeout_s
        self._short = hiredis.Reader(
            protocolError=exceptions.InvalidResponse,
            replyError=parse_error,
            notEnoughData=_UNFINISHED,
        )
        self._is_between = True  # `_short` holds no part of a reply
        self._chunk = memoryview(bytearray(_CHUNK_BYTES))
        self._long = memoryview(b"")  # the value under way, with its line's end
        self._num_received = 0  # of it
        self._whole: memoryview | None = None  # a long value, before all that `_short` holds
        self._end: Exception | None = None  # why nothing will arrive any more
        self._arrival: asyncio.Future[None] | None = None
        self._writing: Timer | None = None  # until the server takes what was sent
        # A loop may choose how to read when it begins to.
        transport.pause_reading()
        transport.set_protocol(self)
        transport.resume_reading()

    @property
    def is_stale(self) -> bool:
        is_empty = self._is_between and not self._long and self._whole is None
        return self._end is not None or not is_empty

    async def reply(self) -> Any:
        """For one caller at a time. Raises OSError and redis-py's errors."""
        reply = self._next()
        if reply is not _UNFINISHED:
            return reply
        loop = asyncio.get_running_loop()
        timer = Timer(self._timeout_s, partial(self._give_up, "reading a reply"))
        try:
            while reply is _UNFINISHED:
                if self._end is not None:
                    raise self._end
                self._arrival = loop.create_future()
                await self._arrival
                reply = self._next()
        finally:
            timer.cancel()
        return reply

    def _next(self) -> Any:
        if self._whole is not None:
            whole, self._whole = self._whole, None
            return whole
        if self._is_between:
            return _UNFINISHED
        reply = self._short.gets(False)
        # A reply of several parts may be unfinished with every byte looked at.
        self._is_between = reply is not _UNFINISHED and not self._short.has_data()
        # Nobody asked for a message of RESP3.
        return self._next() if isinstance(reply, hiredis.PushNotification) else reply

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        return self._long[self._num_received :] if self._long else self._chunk

    def buffer_updated(self, nbytes: int) -> None:
        if self._long:
            self._received(nbytes)
        elif not self._begins_long(nbytes):
            self._short.feed(bytes(self._chunk[:nbytes]))
            self._is_between = False
        if not self._long:
            self._wake()

    def _begins_long(self, nbytes: int) -> bool:
        """Whether what was received is the beginning of a long value; it is taken as that."""
        if not self._is_between or self._whole is not None or self._chunk[0] != ord("$"):
            return False
        length, end, _ = bytes(self._chunk[1 : min(nbytes, 24)]).partition(b"\r\n")
        if not end or not length.isdigit() or not _CHUNK_BYTES < int(length) <= _LONGEST_BYTES:
            return False
        beginning = self._chunk[1 + len(length) + len(end) : nbytes]
        self._long = memoryview(bytearray(int(length) + len(end)))
        self._long[: len(beginning)] = beginning
        self._num_received = len(beginning)
        return True

    def _received(self, nbytes: int) -> None:
        self._num_received += nbytes
        if self._num_received == len(self._long):
            self._whole, self._long = self._long[:-2], memoryview(b"")

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def _give_up(self, doing: str) -> None:
        self._end = exceptions.TimeoutError(f"timeout {doing}")
        self._wake()
        # A writer that waits hears of it when the connection is lost.
        self.transport.abort()

    def eof_received(self) -> None:
        """The transport closes itself then."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timing()
        self._stream.connection_lost(self._end or exc)
        self._end = (
            self._end or exc or exceptions.ConnectionError("the server closed the connection")
        )
        self._wake()

    def pause_writing(self) -> None:
        self._writing = Timer(self._timeout_s, partial(self._give_up, "writing a command"))
        self._stream.pause_writing()

    def resume_writing(self) -> None:
        self._stop_timing()
        self._stream.resume_writing()

    def _stop_timing(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
