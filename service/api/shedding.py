"""Owns refusing, before it comes to the app, what would wait longer than its budget.

Under overload most requests are refused, on the event loop that has to bring the others their
answers in time: what a refusal costs is taken from those. Never refuses but by the rule of
admission (`service.scheduler`): whoever goes on has a place in line. What it can not read goes on
without one, and is told what is wrong with it.
"""

import time
from functools import cache, lru_cache
from http import HTTPStatus
from typing import Final, NamedTuple

from starlette.types import Scope

from service.api.budget import deadline_of
from service.api.guard import Gate
from service.api.peek import Peek
from service.api.problems import answer
from service.api.scope import find, request_id
from service.api.tally import Tally
from service.deadline import Deadline
from service.errors import Overloaded, Refusal, ServiceError
from service.runtime import Runtime

_PATH: Final = "/recommend"
_URL: Final = _PATH.encode()
_ANY_ID: Final = "{request_id}"
_STATUS: Final = HTTPStatus(Overloaded.status)
_STATUS_LINE: Final = f"HTTP/1.1 {_STATUS} {_STATUS.phrase}".encode()


class Shedding:
    """Answers 429 in the place of the app."""

    def __init__(self, runtime: Runtime, gate: Gate, tally: Tally) -> None:
        self._runtime, self._gate, self._tally = runtime, gate, tally
        self._count = cache(runtime.metrics.refusals.labels)

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
        scope["path"] = _PATH
        try:
            self._enter(scope, body, self._gate.client(scope))
        except Overloaded as refusal:
            return self._told(refusal, scope)
        except ServiceError:
            pass
        return None

    def _enter(self, scope: Scope, body: bytes, client: str) -> None:
        recommender = self._runtime.recommender()
        if least := Peek.least(body):
            recommender.require_room(least.size, self._deadline(scope, least), client)
        if asked := Peek.at(body):
            place = recommender.enter(asked.size, self._deadline(scope, asked), client)
            scope["state"]["place"] = place

    def _deadline(self, scope: Scope, asked: Peek) -> Deadline:
        return deadline_of(scope, self._runtime.settings.max_budget_ms, asked.budget_ms)

    def _told(self, refusal: Overloaded, scope: Scope) -> bytes:
        mine = request_id(scope)
        self._count(refusal.reason).inc()
        self._tally.done(_PATH, mine, refusal.status, time.monotonic() - scope["state"]["began_s"])
        form = _form(refusal.detail, refusal.reason, refusal.retry_after_s)
        return form.filled(mine.encode())


class _Form(NamedTuple):
    """An answer, but for its request's id."""

    head: bytes
    before: bytes  # in the body
    after: bytes

    def filled(self, mine: bytes) -> bytes:
        body = b"%s%s%s" % (self.before, mine, self.after)
        lines = b"content-length: %d\r\nx-request-id: %s" % (len(body), mine)
        return b"\r\n".join((self.head, lines, b"", body))


@lru_cache(maxsize=32)
def _form(detail: str, reason: Refusal, retry_after_s: int) -> _Form:
    """Of a refusal: they are all alike, and few of them differ in more than the id."""
    refusal = Overloaded(detail, reason=reason, retry_after_s=retry_after_s)
    response = answer(refusal, _ANY_ID, _PATH)
    headers = (pair for pair in response.raw_headers if pair[0] != b"content-length")
    head = b"\r\n".join((_STATUS_LINE, *(b"%s: %s" % pair for pair in headers)))
    before, _, after = bytes(response.body).partition(_ANY_ID.encode())
    return _Form(head, before, after)
