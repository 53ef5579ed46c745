"""Owns refusing, before it is validated, what would wait longer than its budget.

Under overload most requests are refused, on the event loop that has to bring the others their
answers in time: what a refusal costs is taken from those. Never looks while the engine is free, and
never refuses but by the rule of admission (`service.scheduler`); what it can not read goes on, and
is told what is wrong with it.
"""

from typing import Final

from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.budget import deadline_of
from service.api.peek import Peek
from service.api.problems import answer
from service.errors import Overloaded, ServiceError
from service.runtime import Runtime

SHED: Final = "/recommend"


class Shedding:
    """Answers 429 in the place of `route`, that of `SHED`."""

    def __init__(self, app: ASGIApp, runtime: Runtime, route: BaseRoute) -> None:
        self._app, self._runtime, self._route = app, runtime, route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (scope["method"], scope["path"]) != ("POST", SHED):
            await self._app(scope, receive, send)
            return
        messages = [await receive()]
        while messages[-1].get("more_body", False):
            messages.append(await receive())
        refusal = self._refusal(scope, b"".join(each.get("body", b"") for each in messages))
        if refusal is None:
            await self._app(scope, _again(messages, receive), send)
            return
        scope["route"] = self._route  # which it is counted and logged under
        self._runtime.metrics.refusals.labels(refusal.reason).inc()
        await answer(refusal, scope["state"]["request_id"], SHED)(scope, receive, send)

    def _refusal(self, scope: Scope, body: bytes) -> Overloaded | None:
        client = scope["state"]["client"]
        try:
            recommender = self._runtime.recommender()
            if recommender.is_busy(client) and (asked := Peek.at(body)):
                max_budget_ms = self._runtime.settings.max_budget_ms
                deadline = deadline_of(scope, max_budget_ms, asked.budget_ms)
                recommender.require_room(asked.size, deadline, client)
        except Overloaded as refusal:
            return refusal
        except ServiceError:
            pass  # the route says it, unless something else is wrong, which it says first
        return None


def _again(messages: list[Message], receive: Receive) -> Receive:
    """What was received, then what comes."""
    waiting = iter(messages)

    async def received() -> Message:
        for message in waiting:
            return message
        return await receive()

    return received
