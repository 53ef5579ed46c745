"""Owns what happens to every request before and after its route: id, body limit, metrics, log.

Never reads the body itself. Pure ASGI: nothing here buffers an answer.
"""

import re
import time
import uuid
from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import answer
from service.errors import ServiceError, TooLarge
from service.metrics import Metrics

_log = structlog.get_logger("mfalcon.http")
_SAFE_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_QUIET: Final = ("/health", "/metrics")


class RequestScope:
    """Gives each request an id and a start time; counts, times and logs its answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        given = _header(scope, b"x-request-id")
        request_id = given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {}).update(request_id=request_id, began_s=began)
        status: int | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", []),
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            _log.error("internal_error", request_id=request_id, exc_info=error)
            if status is not None:
                raise  # half an answer is out; the server cuts the connection
            problem = ServiceError("an unexpected error; the log has it under this request id")
            await answer(problem, request_id, scope["path"])(scope, receive, send_with_id)
        finally:
            self._done(scope, request_id, status, time.monotonic() - began)

    def _done(self, scope: Scope, request_id: str, status: int | None, seconds: float) -> None:
        # The route's template, never the path: paths hold user ids.
        route = getattr(scope.get("route"), "path", "unmatched")
        self._metrics.requests.labels(route, str(status or "disconnected")).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        if not route.startswith(_QUIET):
            ms = round(seconds * 1000, 2)
            _log.info("request", request_id=request_id, route=route, status=status, ms=ms)


class BodyLimit:
    """Refuses a body over the limit before anything parses it."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app, self._max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = _header(scope, b"content-length")
        if declared.isascii() and declared.isdigit() and int(declared) > self._max_bytes:
            await self._refuse(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise _TooMuch
            return message

        try:
            await self._app(scope, counted, send)
        except _TooMuch:
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        error: ServiceError = TooLarge(
            f"the body exceeds the limit of {self._max_bytes} bytes; send less, or raise the "
            "setting max_body_bytes (--max-body-bytes)"
        )
        response = answer(error, scope["state"]["request_id"], scope["path"])
        response.headers["Connection"] = "close"
        await response(scope, receive, send)


class _TooMuch(BaseException):
    """Passes through handlers of Exception on its way out of the route."""


def _header(scope: Scope, name: bytes) -> str:
    return next((v.decode("latin-1") for k, v in scope["headers"] if k == name), "")
