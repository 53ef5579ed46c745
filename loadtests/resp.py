"""Owns a few commands to a Redis or Valkey, to look and to meddle: RESP over a socket."""

import socket
from types import TracebackType
from typing import Final, Self

ANSWER_S: Final = 10.0

Reply = int | bytes | list["Reply"] | None


class ServerError(Exception):
    """The server answered with an error; the message is its own."""


class Resp:
    """One connection. Blocks; raises OSError where the server is gone."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), ANSWER_S)
        self._file = self._socket.makefile("rb")

    def ask(self, *words: bytes | str | int) -> Reply:
        """The reply to one command.

        Raises:
            ServerError: it was refused.
        """
        parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        lines = [b"*%d\r\n" % len(parts)]
        lines += [b"$%d\r\n%b\r\n" % (len(part), part) for part in parts]
        self._socket.sendall(b"".join(lines))
        return self._reply()

    def keys(self, pattern: str) -> list[bytes]:
        found: list[bytes] = []
        cursor: Reply = b"0"
        while True:
            assert isinstance(cursor, bytes)
            reply = self.ask("SCAN", cursor, "MATCH", pattern, "COUNT", 500)
            assert isinstance(reply, list)
            cursor, page = reply
            assert isinstance(page, list)
            found += [key for key in page if isinstance(key, bytes)]
            if cursor == b"0":
                return found

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _reply(self) -> Reply:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed the connection")
        mark, rest = line[:1], line[1:-2]
        match mark:
            case b"+":
                return rest
            case b"-":
                raise ServerError(rest.decode(errors="replace"))
            case b":":
                return int(rest)
            case b"*":
                return [self._reply() for _ in range(int(rest))]
        if int(rest) < 0:
            return None
        return self._file.read(int(rest) + 2)[:-2]
