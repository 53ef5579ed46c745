import asyncio

import pytest

from loadtests.connection import Connections

pytestmark = pytest.mark.anyio
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n%b\r\n{}"


async def served(answers: list[bytes]) -> tuple[list[object], int]:
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

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        connections = Connections(url, {"X-Test": "yes"})
        results: list[object] = []
        for _ in range(len(answers)):
            try:
                results.append(await connections.post("/recommend", b"null"))
            except (OSError, EOFError, ValueError) as error:
                results.append(type(error))
        connections.close()
    assert all(b"\r\nX-Test: yes\r\n" in head and b"\r\nHost: 127.0.0.1:" in head for head in heads)
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
