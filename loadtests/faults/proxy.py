"""Owns a port before Redis that does to commands and replies what networks do."""

import asyncio
from contextlib import suppress
from typing import Final

_PIECE_BYTES: Final = 1 << 16
_WRITES: Final = (b"\r\nEVAL\r\n", b"\r\nSET\r\n")
"""In commands that put a state in its place."""


class _Link:
    """A connection of the service, and the one to Redis that stands for it."""

    def __init__(self, writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        self._writers = writers
        self.is_dead = False
        """Open, but nothing passes."""

    def cut(self) -> None:
        for writer in self._writers:
            writer.close()


class Proxy:
    """Set the fields at any time; they hold for what comes next."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self.port = 0
        self.delay_s = 0.0
        """Before a piece of a reply is passed on."""
        self._links: set[_Link] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._trap: asyncio.Future[None] | None = None
        self._is_whole = True

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self.cut()
            if self._serving:
                await asyncio.wait(self._serving)
            await self._server.wait_closed()

    def cut(self) -> None:
        """Every connection there is ends."""
        for link in self._links:
            link.cut()

    def die(self) -> None:
        """Every connection there is stays open, and nothing passes any more."""
        for link in self._links:
            link.is_dead = True

    def trap(self, *, is_whole: bool) -> asyncio.Future[None]:
        """Done as soon as a write was passed on, to its end or its middle; no reply comes back."""
        self._trap, self._is_whole = asyncio.get_running_loop().create_future(), is_whole
        return self._trap

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        except OSError:
            writer.close()
            return
        link = _Link((writer, back))
        self._links.add(link)
        pumps = [
            asyncio.create_task(self._commands(link, reader, back)),
            asyncio.create_task(self._replies(link, there, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._links.discard(link)
            for pump in pumps:
                pump.cancel()
            link.cut()

    async def _commands(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(_PIECE_BYTES):
                if self._trap is not None and not self._trap.done() and _is_write(data):
                    link.is_dead = True
                    writer.write(data if self._is_whole else data[: len(data) // 2])
                    await writer.drain()
                    self._trap.set_result(None)
                elif not link.is_dead:
                    writer.write(data)
                    await writer.drain()

    async def _replies(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(_PIECE_BYTES):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if not link.is_dead:
                    writer.write(data)
                    await writer.drain()


def _is_write(data: bytes) -> bool:
    return any(word in data for word in _WRITES)
