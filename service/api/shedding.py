"""Owns refusing, before it comes to the app, what would wait longer than its budget.

Under overload most requests are refused, on the event loop that has to bring the others their
answers in time: what a refusal costs is taken from those. Never refuses but by the rule of
admission (`service.scheduler`): whoever goes on has a place in line. What it can not read goes on
without one, and is told what is wrong with it.
"""

import time
from http import HTTPStatus
from typing import Final

from starlette.types import Scope

from service.api.budget import deadline_of
from service.api.guard import Gate
from service.api.peek import Peek
from service.api.problems import answer
from service.api.scope import find, request_id
from service.api.tally import Tally
from service.errors import Overloaded, ServiceError
from service.runtime import Runtime

_PATH: Final = "/recommend"
_URL: Final = _PATH.encode()
_STATUS: Final = HTTPStatus(Overloaded.status)
_STATUS_LINE: Final = f"HTTP/1.1 {_STATUS} {_STATUS.phrase}".encode()


class Shedding:
    """Answers 429 in the place of the app."""

    def __init__(self, runtime: Runtime, gate: Gate, tally: Tally) -> None:
        self._runtime, self._gate, self._tally = runtime, gate, tally

    def looks_at(self, method: bytes, url: bytes) -> bool:
        """Whether a request for it may be refused."""
        return method == b"POST" and url == _URL and not self._runtime.lifecycle.is_draining

    def refusal(self, scope: Scope, body: bytes) -> bytes | None:
        """The head and body of an HTTP answer; None: it goes on, if it can with a place in line.

        `scope`: with its headers, and in its state when it began. The app says what it says to a
        request without a key, and to a browser's.
        """
        if find(scope, b"origin") is not None:
            return None
        try:
            client = self._gate.client({**scope, "path": _PATH})
            self._enter(scope, body, client)
        except Overloaded as refusal:
            return self._told(refusal, scope)
        except ServiceError:
            pass
        return None

    def _enter(self, scope: Scope, body: bytes, client: str) -> None:
        if asked := Peek.at(body):
            deadline = deadline_of(scope, self._runtime.settings.max_budget_ms, asked.budget_ms)
            place = self._runtime.recommender().enter(asked.size, deadline, client)
            scope["state"]["place"] = place

    def _told(self, refusal: Overloaded, scope: Scope) -> bytes:
        mine = request_id(scope)
        self._runtime.metrics.refusals.labels(refusal.reason).inc()
        self._tally.done(_PATH, mine, refusal.status, time.monotonic() - scope["state"]["began_s"])
        response = answer(refusal, mine, _PATH)
        headers = [*response.raw_headers, (b"x-request-id", mine.encode())]
        lines = (b"%s: %s" % pair for pair in headers)
        return b"\r\n".join((_STATUS_LINE, *lines, b"", response.body))
