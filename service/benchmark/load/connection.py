"""Owns one keep-alive HTTP/1.1 connection to loopback: as little as a client can do.

Never follows, retries or decodes: a client that computes takes the service's processor.
"""

import asyncio
import re
from typing import Self

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """The status and the body of the answer.

        Raises:
            OSError, EOFError: the connection was lost.
        """
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        answered = await self._reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(answered)
        assert length is not None, "an answer without a length"
        return int(answered[9:12]), await self._reader.readexactly(int(length[1]))

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()
