"""One service, asked over keep-alive connections.

Owns sending a visit, reading and recording its answer. Never decides what is sent.
"""

import time
from typing import Any, Final, Self

import httpx

from loadtests.answer import Answer
from loadtests.record import Recorder
from loadtests.target import key_headers
from loadtests.traffic import Visit

ANSWER_S: Final = 10.0
"""Longer than any deadline of the service: a request is answered or failed, never lost."""


class Client:
    """Times are seconds since `began_s`, the run's beginning, of `time.perf_counter`."""

    def __init__(
        self, host: str, recorder: Recorder, *, budget_ms: float | None, began_s: float
    ) -> None:
        headers = key_headers()
        if budget_ms is not None:
            headers["X-Request-Timeout-Ms"] = f"{budget_ms}"
        self._http = httpx.AsyncClient(
            base_url=host,
            headers=headers,
            timeout=ANSWER_S,
            trust_env=False,
            limits=httpx.Limits(max_connections=None),
        )
        self._recorder, self._began_s = recorder, began_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    @property
    def now_s(self) -> float:
        return time.perf_counter() - self._began_s

    async def send(self, visit: Visit) -> tuple[Answer, dict[str, Any]]:
        """What the answer says, and its whole body; nothing of it is recorded."""
        try:
            response = await self._http.post(visit.path, json=dict(visit.body))
        except httpx.TransportError as error:
            return Answer.none(error), {}
        answer = Answer.parse(visit.kind, response.status_code, response.content)
        return answer, response.json() if answer.is_ok else {}

    async def record(
        self, visit: Visit, due_s: float | None = None
    ) -> tuple[Answer, dict[str, Any]]:
        """As `send`. Latency counts from when it was due; None: now."""
        sent_s = self.now_s
        at_s = sent_s if due_s is None else due_s
        answer, body = await self.send(visit)
        latency_ms = 1000 * (self.now_s - at_s)
        waited_ms = 1000 * (sent_s - at_s)
        self._recorder.sample(
            answer.sample(visit, at_s=at_s, waited_ms=waited_ms, latency_ms=latency_ms)
        )
        return answer, body
