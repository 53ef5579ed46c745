"""Owns what happens to every request before and after its route: id, body limit, metrics, log.

Never reads the body itself. Pure ASGI: nothing here buffers an answer.
"""

import asyncio
import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import answer
from service.api.scope import header, request_id
from service.api.tally import Tally
from service.errors import ServiceError, TooLarge, TooSlow, Unexpected
from service.in_flight import InFlight
from service.lifecycle import Lifecycle
from service.metrics import Metrics

_log = structlog.get_logger("mfalcon.http")


class RequestScope:
    """Gives each request an id and a start time; counts, times and logs its answer."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        tally: Tally,
        lifecycle: Lifecycle,
        in_flight: InFlight,
    ) -> None:
        self._app, self._metrics, self._tally = app, metrics, tally
        self._lifecycle, self._in_flight = lifecycle, in_flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        began = state.setdefault("began_s", time.monotonic())
        mine = state["request_id"] = request_id(scope)
        status: int | None = None
        self._metrics.in_flight.inc()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", []),
                    (b"x-request-id", mine.encode()),
                ]
                if self._lifecycle.is_draining:
                    # The client's next request is to find another replica, not a closed connection.
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        try:
            with self._in_flight.request():
                await self._app(scope, receive, send_with_id)
        except Exception as error:
            _log.error("internal_error", request_id=mine, exc_info=error)
            if status is not None:
                raise  # half an answer is out; the server cuts the connection
            await answer(Unexpected(), mine, scope["path"])(scope, receive, send_with_id)
        finally:
            if place := state.get("place"):
                place.leave()
            if ending := state.get("ending"):
                ending.sent()
            self._metrics.in_flight.dec()
            route = getattr(scope.get("route"), "path", "unmatched")
            self._tally.done(route, mine, status, time.monotonic() - began)


class BodyLimit:
    """Refuses a body that is too large or too slow before anything parses it."""

    def __init__(self, app: ASGIApp, max_bytes: int, timeout_s: float) -> None:
        self._app, self._max_bytes, self._timeout_s = app, max_bytes, timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            declared = header(scope, b"content-length")
            if declared.isdigit() and int(declared) > self._max_bytes:
                raise _Refused(self._too_large())
            await self._app(scope, self._bounded(receive, scope["state"]["began_s"]), send)
        except _Refused as refused:
            response = answer(refused.error, scope["state"]["request_id"], scope["path"])
            response.headers["Connection"] = "close"  # the rest is not read
            await response(scope, receive, send)

    def _bounded(self, receive: Receive, began_s: float) -> Receive:
        received, is_whole = 0, False

        async def bounded() -> Message:
            nonlocal received, is_whole
            if is_whole:  # nothing can come but the end of the connection
                return await receive()
            try:
                async with asyncio.timeout(began_s + self._timeout_s - time.monotonic()):
                    message = await receive()
            except TimeoutError:
                raise _Refused(self._too_slow()) from None
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise _Refused(self._too_large())
            is_whole = not message.get("more_body", False)
            return message

        return bounded

    def _too_large(self) -> ServiceError:
        return TooLarge(
            f"the body exceeds the limit of {self._max_bytes} bytes; send less, or raise the "
            "setting max_body_bytes (--max-body-bytes)"
        )

    def _too_slow(self) -> ServiceError:
        return TooSlow(
            f"the body was not here after {1000 * self._timeout_s:g} ms; send it faster, or raise "
            "the setting receive_timeout_ms (--receive-timeout-ms)"
        )


class _Refused(BaseException):
    """Passes through handlers of Exception on its way out of the route."""

    def __init__(self, error: ServiceError) -> None:
        super().__init__()
        self.error = error
