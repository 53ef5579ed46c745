"""Owns asking the product for a user's history over HTTP, and what is taken for an answer.

    POST {history_url}  {"user_id": "42", "max_events": 1024}
    200                 {"events": [{"item_id": "318", "action": "positive", "timestamp": 1}]}
    404                 no such user: no events

Never retries, follows a redirection or logs a user. An answer is taken whole or not at all.
"""

import asyncio
import json
from typing import Final

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from cache import Breaker
from model.checkpoint import Checkpoint
from model.history import Event
from service.errors import InvalidRequest
from service.metrics import Metrics
from service.schemas import EventIn
from service.updates import Offer

_MAX_CONNECTIONS: Final = 16
"""A store that lost everything must not turn all traffic on the product's database."""

_PATIENCE: Final = 0.25
"""The share of the timeout after which a missing answer says something about the provider."""

_MAX_MESSAGE: Final = 200


class HistoryUnavailable(Exception):
    """The provider was not asked, or gave no answer that can be used; the message says why."""


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    events: list[EventIn]


class HistoryProvider:
    """An HTTP endpoint, for one checkpoint."""

    def __init__(
        self,
        url: str,
        checkpoint: Checkpoint,
        *,
        timeout_s: float,
        max_bytes: int,
        metrics: Metrics,
    ) -> None:
        """`max_bytes` bounds an answer."""
        self._url, self._checkpoint, self._metrics = httpx.URL(url), checkpoint, metrics
        self._timeout_s, self._max_bytes = timeout_s, max_bytes
        # More can be of no use.
        self._max_events = checkpoint.config.window.capacity
        self._breaker = Breaker()
        # Bytes are counted as they arrive, so nothing may unfold later.
        self._client = httpx.AsyncClient(
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            timeout=None,
            limits=httpx.Limits(max_connections=_MAX_CONNECTIONS),
        )

    async def ask(self, user_id: str, timeout_s: float | None = None) -> list[Event]:
        """The user's events in any order, without unknown items; none if there is no such user.

        `timeout_s` can only shorten the provider's own timeout. Raises HistoryUnavailable.
        """
        ticket = self._breaker.admit()
        if ticket is None:
            self._count("skipped")
            raise HistoryUnavailable("it failed several times in a row and is given a pause")
        left_s = self._timeout_s if timeout_s is None else min(timeout_s, self._timeout_s)
        works: bool | None = None
        try:
            async with asyncio.timeout(left_s):
                events = await self._ask(user_id)
            works = True
        except TimeoutError:
            works = False if left_s >= _PATIENCE * self._timeout_s else None
            raise self._failed(f"no answer within {left_s * 1000:.0f} ms") from None
        except (httpx.HTTPError, ValueError) as error:  # ValueError: a host no name can be
            works = False
            # The kind alone: messages may hold the URL, and that a password.
            raise self._failed(f"it can not be reached: {type(error).__name__}") from None
        except HistoryUnavailable as error:
            works = False
            raise self._failed(str(error)) from None
        finally:
            self._breaker.report(ticket, works)
        self._count("found" if events else "none")
        return events

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(self, user_id: str) -> list[Event]:
        question = json.dumps({"user_id": user_id, "max_events": self._max_events})
        json_body = {"Content-Type": "application/json"}
        async with self._client.stream(
            "POST", self._url, content=question.encode(), headers=json_body
        ) as response:
            if response.status_code == httpx.codes.NOT_FOUND:
                return []
            if response.status_code != httpx.codes.OK:
                raise HistoryUnavailable(f"it answered {response.status_code}, not 200 or 404")
            body = bytearray()
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > self._max_bytes:
                    raise HistoryUnavailable(
                        f"its answer exceeds {self._max_bytes} bytes; send the newest "
                        f"{self._max_events} events, or raise the setting max_body_bytes"
                    )
        try:
            return Offer.of(self._checkpoint, _read(bytes(body)), replace=False).events
        except InvalidRequest as error:
            raise HistoryUnavailable(f"its answer can not be used: {error}") from None

    def _failed(self, reason: str) -> HistoryUnavailable:
        self._count("failed")
        return HistoryUnavailable(reason)

    def _count(self, outcome: str) -> None:
        self._metrics.history_requests.labels(outcome).inc()


def _read(body: bytes) -> list[EventIn]:
    try:
        return _Answer.model_validate_json(body).events
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"]) or "the answer"
        message = f"{where}: {problem['msg']}"[:_MAX_MESSAGE]
        raise HistoryUnavailable(f"its answer can not be read: {message}") from None
