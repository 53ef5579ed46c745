"""Connections over real sockets: heads that are too long or never end, and TLS."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from service import protocol
from service.app import create_app
from service.configuration import load_settings
from tests.service.builders import over_sockets

pytestmark = pytest.mark.anyio

HEAD = b"GET /health/live HTTP/1.1\r\nHost: mfalcon\r\n"
NO_HANG_S = 20.0
MUCH = protocol.MAX_HEAD_BYTES


@asynccontextmanager
async def listening(**flags: Any) -> AsyncIterator[int]:
    """The port of an app that was not started: enough to be asked whether it is alive."""
    settings = load_settings(flags)
    async with over_sockets(create_app(settings), settings) as port:
        yield port


async def told(port: int, *pieces: bytes) -> bytes:
    """What a server says until it closes the connection, having been sent the pieces."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def closing(*headers: bytes) -> bytes:
    return HEAD + b"".join(headers) + b"Connection: close\r\n\r\n"


async def test_a_head_up_to_the_limit_is_taken() -> None:
    async with listening() as port:
        long = b"X-Long: " + b"x" * (MUCH - 200) + b"\r\n"
        many = b"".join(b"X-%d: y\r\n" % n for n in range(5000))
        for head in (closing(), closing(long), closing(many)):
            assert (await told(port, head)).startswith(b"HTTP/1.1 200 ")
            assert await told(port, *(head[at : at + 999] for at in range(0, len(head), 999)))


@pytest.mark.parametrize(
    "head",
    [
        closing(b"X-Long: " + b"x" * MUCH + b"\r\n"),
        closing(b"".join(b"X-%d: y\r\n" % n for n in range(10_000))),
        HEAD.replace(b"/health/live", b"/" + b"x" * MUCH) + b"\r\n",
        HEAD.replace(b"/health/live", b"/health/live?" + b"x" * MUCH) + b"\r\n",
    ],
    ids=["one header", "many headers", "path", "query"],
)
@pytest.mark.parametrize("size", [1 << 20, 1000], ids=["at once", "in pieces"])
async def test_a_head_over_the_limit_is_refused(head: bytes, size: int) -> None:
    async with listening() as port:
        answer = await told(port, *(head[at : at + size] for at in range(0, len(head), size)))
        # Nothing where the connection was gone before all was sent.
        assert answer.startswith(b"HTTP/1.1 400 ") or not answer
        assert (await told(port, closing())).startswith(b"HTTP/1.1 200 ")


async def test_one_connection_too_many_is_closed_and_room_is_found_again() -> None:
    async with listening(max_connections=2) as port:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for reader, writer in held:
            writer.write(HEAD + b"\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        for _ in range(3):
            assert await told(port, closing()) == b""
        held.pop()[1].close()
        with anyio.fail_after(NO_HANG_S):
            while not (await told(port, closing())).startswith(b"HTTP/1.1 200 "):
                pass
        held.pop()[1].close()


async def test_a_head_without_an_end_is_not_collected() -> None:
    """The server closes the connection; a client that never stops would go on sending."""
    async with listening() as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)

        async def send_on() -> None:
            writer.write(HEAD + b"X-Long: ")
            for _ in range(1000):
                writer.write(b"x" * 10_000)
                await writer.drain()
                await asyncio.sleep(0.001)

        with pytest.raises(ConnectionError):
            await send_on()
        writer.close()


@pytest.mark.parametrize(
    "sent", [b"", b"GET", HEAD, closing()[:-2]], ids=["nothing", "a word", "a line", "all but"]
)
async def test_who_does_not_end_a_head_is_cut_off(sent: bytes) -> None:
    async with listening(receive_timeout_ms=50) as port:
        assert await told(port, sent) == b""


async def test_a_second_head_is_bounded_as_the_first() -> None:
    async with listening(receive_timeout_ms=50) as port:
        answers = await told(port, HEAD + b"\r\n", HEAD)
        assert answers.count(b"HTTP/1.1 200 ") == 1
    async with listening() as port:
        endless = HEAD + b"X-Long: " + b"x" * 2 * MUCH
        pieces = [endless[at : at + 1000] for at in range(0, len(endless), 1000)]
        answers = await told(port, HEAD + b"\r\n", *pieces)
        assert answers.count(b"HTTP/1.1 200 ") <= 1


async def test_a_body_that_does_not_end_is_a_408() -> None:
    body = (
        b"POST /recommend HTTP/1.1\r\nHost: mfalcon\r\nContent-Type: application/json\r\n"
        b'Content-Length: 100\r\n\r\n{"user_id"'
    )
    async with listening(receive_timeout_ms=50) as port:
        answer = await told(port, body)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"too_slow" in answer
        assert b"receive_timeout_ms" in answer
        chunked = body.replace(b"Content-Length: 100\r\n", b"Transfer-Encoding: chunked\r\n")
        chunked = chunked.replace(b'{"user_id"', b'a\r\n{"user_id"\r\n')
        assert (await told(port, chunked)).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 10\r\nContent-Length: 11\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: ten\r\n",
        b"Content-Length: 99999999999999999999999999\r\n",
        b"Content-Length: 10\r\nTransfer-Encoding: chunked\r\n",
    ],
    ids=["two lengths", "negative", "word", "huge", "length and chunks"],
)
async def test_a_length_that_can_not_be_is_refused(headers: bytes) -> None:
    async with listening(receive_timeout_ms=50) as port:
        head = b"POST /recommend HTTP/1.1\r\nHost: mfalcon\r\n" + headers + b"\r\n"
        assert (await told(port, head + b"0123456789")).startswith(b"HTTP/1.1 400 ")


async def test_a_body_longer_than_its_length_is_cut_there() -> None:
    async with listening() as port:
        head = b"POST /recommend HTTP/1.1\r\nHost: mfalcon\r\nContent-Length: 2\r\n\r\n"
        answers = await told(port, head + b"{}" + b"smuggled" * 10)
        assert answers.startswith(b"HTTP/1.1 4") or answers.startswith(b"HTTP/1.1 503 ")
        assert b"smuggled" not in answers
        assert answers.count(b"HTTP/1.1 200") == 0


async def test_a_web_socket_is_refused() -> None:
    async with listening() as port:
        upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        for path in (b"/recommend", b"/health/live", b"/admin/reload"):
            head = HEAD.replace(b"/health/live", path)
            assert (await told(port, head + upgrade + key)).startswith(b"HTTP/1.1 403 ")
