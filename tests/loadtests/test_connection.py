import asyncio
import ssl
from pathlib import Path

import pytest

from loadtests import connection
from loadtests.connection import Connections
from tests.certificates import make_certificates

pytestmark = pytest.mark.anyio
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n%b\r\n{}"


async def served(
    answers: list[bytes], tls: ssl.SSLContext | None = None
) -> tuple[list[object], int]:
    """What came of a request for each answer, and how many connections there were."""
    num_connections, heads = 0, []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal num_connections
        num_connections += 1
        while answers:
            try:
                heads.append(await reader.readuntil(b"\r\n\r\n"))
                await reader.readexactly(4)
            except asyncio.IncompleteReadError:
                break
            writer.write(answers.pop(0))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        port = server.sockets[0].getsockname()[1]
        url = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
        connections = Connections(url, {"X-Test": "yes"})
        results: list[object] = []
        for _ in range(len(answers)):
            try:
                results.append(await connections.post("/recommend", b"null"))
            except (OSError, EOFError, ValueError) as error:
                results.append(type(error))
        connections.close()
    assert all(b"\r\nX-Test: yes\r\n" in head and b"\r\nHost: " in head for head in heads)
    return results, num_connections


async def test_a_connection_is_kept() -> None:
    assert await served([OK % b"", OK % b""]) == ([(200, b"{}")] * 2, 1)


async def test_one_that_the_service_closes_is_not_used_again() -> None:
    answers = [OK % b"Connection: close\r\n", OK % b""]
    assert await served(answers) == ([(200, b"{}")] * 2, 2)


async def test_half_an_answer_is_none() -> None:
    results, num_connections = await served([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"])
    assert results == [asyncio.IncompleteReadError]
    assert num_connections == 1


async def test_an_answer_without_a_length_is_none() -> None:
    results, _ = await served([b"HTTP/1.1 200 OK\r\n\r\n{}", OK % b""])
    assert results == [ValueError, (200, b"{}")]


async def test_a_certificate_has_to_be_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_certificates(tmp_path)
    for authority, expected in ((made.authority, (200, b"{}")), (made.stranger, None)):
        trusted = ssl.create_default_context(cafile=authority)
        monkeypatch.setattr(connection, "_trusted", lambda trusted=trusted: trusted)
        results, _ = await served([OK % b""], made.server_context())
        assert results == [expected or ssl.SSLCertVerificationError]


async def test_a_burst_leaves_no_more_connections_than_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "KEPT", 2)
    ends: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends.append(writer)
        while await reader.readline():
            await reader.readuntil(b"null")
            await asyncio.sleep(0.05)
            writer.write(OK % b"")
        ends.remove(writer)
        writer.close()

    async def only(count: int) -> None:
        async with asyncio.timeout(10):
            while len(ends) > count:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        connections = Connections(f"http://127.0.0.1:{port}", {})
        await connections.open()
        asked = [connections.post("/recommend", b"null") for _ in range(6)]
        assert await asyncio.gather(*asked) == [(200, b"{}")] * 6
        await only(2)
        connections.close()
        await only(0)
