"""Owns one keep-alive HTTP/1.1 connection: as little as a client can do.

Never follows, retries or decodes: a client that computes takes the service's processor.
"""

import asyncio
import re
import ssl
from collections.abc import Mapping
from functools import cache
from typing import Final, Self
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection: *close\r\n", re.IGNORECASE)

KEPT: Final = 32


class Connection:
    """One request at a time."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: str
    ) -> None:
        """`headers`: lines of every request."""
        self._reader, self._writer, self._headers = reader, writer, headers
        self.is_open = True
        """Whether another request may be sent."""

    @classmethod
    async def open(cls, host: str, headers: str) -> Self:
        """To a URL of http:// or https://.

        Raises:
            OSError: nothing listens there, or it has no certificate that is trusted here.
        """
        parts = urlsplit(host)
        tls = parts.scheme == "https"
        port = parts.port or (443 if tls else 80)
        ends = await asyncio.open_connection(parts.hostname, port, ssl=_trusted() if tls else None)
        return cls(*ends, f"Host: {parts.netloc}\r\n{headers}")

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """The status and the body of the answer.

        Raises:
            OSError, EOFError: the connection was lost.
            ValueError: an answer that tells no length.
        """
        self.is_open = False
        head = (
            f"POST {path} HTTP/1.1\r\n{self._headers}Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        answered = await self._reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(answered)
        if length is None:
            raise ValueError("an answer that tells no length")
        content = await self._reader.readexactly(int(length[1]))
        self.is_open = _CLOSES.search(answered) is None
        return int(answered[9:12]), content

    def close(self) -> None:
        self.is_open = False
        self._writer.close()


@cache
def _trusted() -> ssl.SSLContext:
    """What the system trusts, or SSL_CERT_FILE; made once, as it takes milliseconds."""
    return ssl.create_default_context()


class Connections:
    """Those of one driver: each for one request at a time, as many as there are under way.

    The one that has rested longest goes first, so that none rests until the service closes it.
    `KEPT` rest at the most: what the service has open is not to grow with the longest burst.
    """

    def __init__(self, host: str, headers: Mapping[str, str]) -> None:
        """`headers` go with every request."""
        self._host = host
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._idle: list[Connection] = []

    async def open(self) -> None:
        """As many as may rest. Raises OSError."""
        self._idle += [await Connection.open(self._host, self._headers) for _ in range(KEPT)]

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Raises as `Connection.post`. A connection that met an error is not used again."""
        if self._idle:
            connection = self._idle.pop(0)
        else:
            connection = await Connection.open(self._host, self._headers)
        try:
            return await connection.post(path, body)
        finally:
            if connection.is_open and len(self._idle) < KEPT:
                self._idle.append(connection)
            else:
                connection.close()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()
