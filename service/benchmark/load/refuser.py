"""Owns the least that a service can do: read where a request ends, and refuse it.

`python -m service.benchmark.load.refuser PORT` listens on loopback. What a flood costs a machine,
whoever refuses it, is measured by it. Answers 200 to all but `POST /recommend`.
"""

import asyncio
import re
import sys
from typing import Final

import uvloop

_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_REFUSED: Final = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\n\r\n{}"
_TAKEN: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Refuser(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport, self._received = transport, bytearray()

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._end()) is not None:
            is_refused = self._received.startswith(b"POST /recommend ")
            self._transport.write(_REFUSED if is_refused else _TAKEN)
            del self._received[:end]

    def _end(self) -> int | None:
        """Of the first request; None: it is not here yet."""
        head = self._received.find(_END)
        if head < 0:
            return None
        length = _LENGTH.search(self._received, 0, head)
        end = head + len(_END) + (int(length[1]) if length else 0)
        return end if len(self._received) >= end else None


async def _main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Refuser, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_main(int(sys.argv[1])))
