"""Owns what a connection's bytes are made into: a request for the app, or an end of it.

Never reads a body but to hand it to `service.api.shedding`, while others wait: what comes after the
head is for the middleware to bound.
"""

import math
import time
from asyncio import TimerHandle, Transport
from typing import Final, cast

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.api.shedding import Shedding
from service.logs import SeldomWarning

MAX_HEAD_BYTES: Final = 64 << 10
"""Of a request line and its headers together: what h11 takes, and httptools does not bound."""

_LONG_BYTES: Final = 256 << 10
_SLOW_S: Final = 0.05
_AGAIN_S: Final = 0.01


class Shed(HttpToolsProtocol):
    """Refuses what need not come to the app: a task for each refusal, and its way through all that
    surrounds a route, would take the event loop from those who are served.

    A request that may be refused is kept back until its body is here. One that is slow or long is
    let in meanwhile: that is for the app to bound. Who asks again as soon as refused waits for the
    next refusal, or a few of them would keep all cores busy with asking and refusing.
    """

    shedding: Shedding
    _kept: bytearray | None = None
    _patience: TimerHandle | None = None
    _refusal: bytes | None = None
    _refuses: TimerHandle | None = None
    _refused_s = -math.inf

    def connection_lost(self, exc: Exception | None) -> None:
        self._drop()
        self._withdraw()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        self._let_in()
        self._tell()
        super().shutdown()

    def on_message_begin(self) -> None:
        self._tell()  # Answers keep the order of their requests.
        super().on_message_begin()
        self.scope["state"]["began_s"] = time.monotonic()

    def on_headers_complete(self) -> None:
        if self._may_be_refused():
            self._kept = bytearray()
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._kept is None:
            super().on_body(body)
            return
        self._kept += body
        if len(self._kept) > _LONG_BYTES:
            self._let_in()

    def on_message_complete(self) -> None:
        if self._kept is not None:
            refusal = self.shedding.refusal(cast(Scope, self.scope), bytes(self._kept))
            if refusal is not None:
                self._drop()
                self._refuse(refusal)
                return
            self._let_in()
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._kept is not None and self._patience is None and not self.transport.is_closing():
            self._patience = self.loop.call_later(_SLOW_S, self._let_in)

    def _may_be_refused(self) -> bool:
        """Not where an answer would take more than to be written down."""
        parser, cycle = self.parser, self.cycle
        return (
            self.shedding.looks_at(parser.get_method(), self.url)
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and not self.expect_100_continue
            and not self.flow.write_paused
            and (cycle is None or cycle.response_complete)
        )

    def _refuse(self, refusal: bytes) -> None:
        self._refusal = refusal
        early_s = self._refused_s + _AGAIN_S - self.loop.time()
        if early_s > 0:
            self._refuses = self.loop.call_later(early_s, self._tell)
        else:
            self._tell()

    def _tell(self) -> None:
        refusal = self._withdraw()
        if refusal is not None:
            self._refused_s = self.loop.time()
            self.transport.write(refusal)
            self.on_response_complete()

    def _withdraw(self) -> bytes | None:
        """The refusal that is to be told."""
        if self._refuses is not None:
            self._refuses.cancel()
            self._refuses = None
        refusal, self._refusal = self._refusal, None
        return refusal

    def _let_in(self) -> None:
        body = self._drop()
        if body is not None:
            super().on_headers_complete()
            super().on_body(bytes(body))

    def _drop(self) -> bytearray | None:
        """What was kept back."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        kept, self._kept = self._kept, None
        return kept


class Bounded(Shed):
    """Ends a connection that is one too many, or whose request's head is too long, or does not come
    to its end in time."""

    timeout_s: float
    max_connections: int
    warn: SeldomWarning
    _is_in_head = True
    _head_bytes = 0
    _timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self.warn(detail="raise max_connections, or see who holds so many")
            transport.close()
            return
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
        if size > MAX_HEAD_BYTES:  # it came in one piece
            raise ValueError("too long a head")  # which the parser makes a 400 of
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
