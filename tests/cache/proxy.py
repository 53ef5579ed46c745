"""Owns a proxy before a server that does to the replies what networks and dying servers do, and a
store behind it."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from cache import RedisStore
from tests.cache.entries import TTL_S


@dataclass
class Proxy:
    """A port before another. Set the fields at any time; they hold for the next bytes."""

    upstream_port: int
    port: int = 0
    replies_left: int | None = None
    """Bytes of replies still let through, then every connection is cut; None for no end."""
    is_silent: bool = False
    """Replies are swallowed."""
    is_deaf: bool = False
    """Commands are not taken any more, for good."""
    is_refusing: bool = False
    """A connection is closed as soon as it is there."""
    num_connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        try:
            if self.is_refusing:
                return
            there, back = await asyncio.open_connection("127.0.0.1", self.upstream_port)
            try:
                async with asyncio.TaskGroup() as group:
                    ends = [
                        group.create_task(self._pump(reader, back, is_reply=False)),
                        group.create_task(self._pump(there, writer, is_reply=True)),
                    ]
                    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                    for end in ends:
                        end.cancel()
            finally:
                back.close()
        finally:
            writer.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_reply: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                if self.is_deaf and not is_reply:
                    await asyncio.Event().wait()
                if is_reply:
                    if self.is_silent:
                        continue
                    if self.replies_left is not None:
                        data = data[: self.replies_left]
                        self.replies_left -= len(data)
                writer.write(data)
                await writer.drain()
                if is_reply and self.replies_left == 0:
                    return


@asynccontextmanager
async def proxy(upstream_port: int, context: ssl.SSLContext | None = None) -> AsyncIterator[Proxy]:
    """With a context it speaks TLS, so that a server without it can be reached by TLS."""
    made = Proxy(upstream_port)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        with suppress(OSError, asyncio.CancelledError):
            await made.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await server.wait_closed()


def store_behind(faulty: Proxy, timeout_s: float = 5.0, max_connections: int = 16) -> RedisStore:
    url = f"redis://127.0.0.1:{faulty.port}"
    return RedisStore.from_url(
        url, ttl_s=TTL_S, timeout_s=timeout_s, max_connections=max_connections
    )
