"""Owns how connections are served: how much of a request's head is taken, and how long it may take.

Never sees a request: what comes after the head is for the middleware to bound.
"""

from asyncio import TimerHandle, Transport
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.settings import Settings

MAX_HEAD_BYTES: Final = 64 << 10
"""Of a request line and its headers together: what h11 takes, and httptools does not bound."""


def options(settings: Settings) -> dict[str, Any]:
    """For `uvicorn.run`."""

    class Bounded(_BoundedHttp):
        timeout_s = settings.receive_timeout_ms / 1000

    return {"host": settings.host, "port": settings.port, "http": Bounded}


class _BoundedHttp(HttpToolsProtocol):
    """Ends a connection whose request's head is too long, or does not come to its end in time."""

    timeout_s: float
    _is_in_head = True
    _head_bytes = 0
    _timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timer = self.loop.call_later(self.timeout_s, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._stop_timer()
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEAD_BYTES:  # came in one piece
            raise ValueError("the parser hands it on as a request that is not to be had")
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        was_in_head = self._is_in_head
        super().data_received(data)
        if not self._is_in_head or self.transport.is_closing():
            return
        if was_in_head:
            self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self.send_400_response(f"The request's head exceeds {MAX_HEAD_BYTES} bytes.")
        elif self._timer is None:
            self._timer = self.loop.call_later(self.timeout_s, self._give_up)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self.transport.close()
