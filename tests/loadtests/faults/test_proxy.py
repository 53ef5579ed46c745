import asyncio
from collections.abc import AsyncIterator

import pytest

from loadtests.faults.proxy import Proxy

pytestmark = pytest.mark.anyio
_NO_HANG_S = 10.0
WRITE = b"*5\r\n$3\r\nSET\r\n" + 100 * b"x"
Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Echo:
    """A server that says what it was told."""

    def __init__(self) -> None:
        self.told = b""
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            self.told += data
            writer.write(data)
        writer.close()
        self.ended.set()


@pytest.fixture
async def echo() -> Echo:
    return Echo()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    made = Proxy(server.sockets[0].getsockname()[1])
    await made.start()
    yield made
    await made.close()
    server.close()
    await server.wait_closed()


async def connected(proxy: Proxy) -> Ends:
    ends = await asyncio.open_connection("127.0.0.1", proxy.port)
    await said(ends, b"hello")
    return ends


async def said(ends: Ends, words: bytes) -> None:
    """And heard again."""
    ends[1].write(words)
    async with asyncio.timeout(_NO_HANG_S):
        assert await ends[0].readexactly(len(words)) == words


async def test_what_is_said_passes_late_if_so_wished(proxy: Proxy) -> None:
    ends = await connected(proxy)
    await said(ends, WRITE)
    proxy.delay_s = 0.01
    await said(ends, b"late")
    ends[1].close()


async def test_cut_connections_end_and_new_ones_come(proxy: Proxy) -> None:
    ends = await connected(proxy)
    proxy.cut()
    async with asyncio.timeout(_NO_HANG_S):
        assert await ends[0].read() == b""
    ends[1].close()
    (await connected(proxy))[1].close()


async def test_dead_connections_stay_open_and_say_nothing(proxy: Proxy, echo: Echo) -> None:
    ends = await connected(proxy)
    proxy.die()
    ends[1].write(b"anybody?")
    other = await connected(proxy)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await ends[0].read(1)
    assert b"anybody?" not in echo.told
    for _, writer in (ends, other):
        writer.close()


@pytest.mark.parametrize(("is_whole", "passed"), [(True, WRITE), (False, WRITE[: len(WRITE) // 2])])
async def test_a_trap_stops_the_next_write(
    proxy: Proxy, echo: Echo, is_whole: bool, passed: bytes
) -> None:
    ends = await connected(proxy)
    trap = proxy.trap(is_whole=is_whole)
    await said(ends, b"*2\r\n$3\r\nGET\r\n")
    assert not trap.done()
    before = echo.told
    ends[1].write(WRITE)
    async with asyncio.timeout(_NO_HANG_S):
        await trap
        ends[1].close()
        await echo.ended.wait()
    assert echo.told == before + passed
