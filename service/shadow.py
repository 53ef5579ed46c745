"""Owns comparing a share of the live answers with the oracle's, while nobody waits for the engine.

Never delays an answer: what does not fit into a short queue is left out, and the oracle runs in a
process of its own. Never tells whose answer it was, nor what was in it.
"""

import asyncio
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog
from torch import Tensor

from model.history import History
from service.exactness import Allowed
from service.logs import SeldomWarning
from service.metrics import Metrics
from service.oracle_process import OracleProcess, OracleUnavailable
from service.ranking import Ranking

_log = structlog.get_logger("mfalcon.shadow")
_MAX_WAITING: Final = 8
_NUM_CANDIDATES: Final = 4
_MAX_EVENTS: Final = 4096
"""The oracle makes tables of all pairs of events."""

_LOOK_EVERY_S: Final = 0.02
_AFTER_FAILURE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Sample:
    """Some candidates of an answer: retrieval logits (C,), action logits (C, actions) if they were
    scored, and the largest logits of either kind that the answer had."""

    request_id: str
    history: History
    request_time: int
    candidates: list[int]
    retrieval: Tensor
    actions: Tensor | None
    largest: tuple[float, float]


class Shadow:
    """For one checkpoint and one event loop."""

    def __init__(
        self,
        oracle: OracleProcess,
        metrics: Metrics,
        *,
        share: float,
        allowed: Allowed,
        is_idle: Callable[[], bool],
    ) -> None:
        """`share`: of the answers, in (0, 1]. `is_idle`: whether nobody waits."""
        self._oracle, self._share, self._allowed, self._is_idle = oracle, share, allowed, is_idle
        outcomes = metrics.shadow_checks.labels
        self._equal, self._differs = outcomes("equal"), outcomes("differs")
        self._skipped = outcomes("skipped")
        self._differences, self._largest = metrics.shadow_differences, metrics.shadow_largest
        metrics.shadow_allowed.set(allowed.difference)
        self._worst = 0.0
        self._largest_logits = [0.0, 0.0]
        self._waiting: asyncio.Queue[_Sample] = asyncio.Queue(_MAX_WAITING)
        self._warn = SeldomWarning(_log, "shadow_unavailable")
        self._random = random.Random()
        self._task: asyncio.Task[None] | None = None

    def offer(self, request_id: str, ranking: Ranking, request_time: int) -> None:
        """An answer, of which some are taken. Call from the event loop."""
        if self._random.random() >= self._share:
            return
        history = ranking.state.history
        if self._waiting.full() or len(history) > _MAX_EVENTS or not len(ranking.order):
            self._skipped.inc()
            return
        self._waiting.put_nowait(self._sample(request_id, ranking, request_time))
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def drain(self) -> None:
        """Wait until everything taken is compared, or could not be."""
        await self._waiting.join()

    async def close(self) -> None:
        """Without comparing what is left."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._oracle.close()

    def _sample(self, request_id: str, ranking: Ranking, request_time: int) -> _Sample:
        num_scored = len(ranking.logits)
        count = num_scored or len(ranking.order)  # Nothing scored: retrieval alone is compared.
        chosen = self._random.sample(range(count), min(_NUM_CANDIDATES, count))
        return _Sample(
            request_id=request_id,
            history=ranking.state.history,
            request_time=request_time,
            candidates=ranking.order[chosen].tolist(),
            retrieval=ranking.retrieval[chosen],
            actions=ranking.logits[chosen] if num_scored else None,
            largest=(_largest(ranking.retrieval), _largest(ranking.logits)),
        )

    async def _run(self) -> None:
        while True:
            sample = await self._waiting.get()
            try:
                await self._compare(sample)
            except OracleUnavailable as error:
                self._skipped.inc()
                self._warn(detail=str(error))
                # Before the next try, to which a process is started.
                await asyncio.sleep(_AFTER_FAILURE_S)
            finally:
                self._waiting.task_done()

    async def _compare(self, sample: _Sample) -> None:
        while not self._is_idle():  # noqa: ASYNC110 - the engine's thread should tell nobody
            await asyncio.sleep(_LOOK_EVERY_S)
        retrieval, actions = await self._oracle.score(
            sample.history, sample.request_time, sample.candidates
        )
        of_retrieval = _largest(sample.retrieval - retrieval)
        of_actions = 0.0 if sample.actions is None else _largest(sample.actions - actions)
        if self._allowed.unit == "largest logit":
            self._largest_logits = [*map(max, self._largest_logits, sample.largest)]
            of_retrieval /= self._largest_logits[0] or 1.0
            of_actions /= self._largest_logits[1] or 1.0
        self._tell(sample.request_id, max(of_retrieval, of_actions))

    def _tell(self, request_id: str, difference: float) -> None:
        allowed = self._allowed
        self._worst = max(self._worst, difference)
        self._largest.set(self._worst)
        self._differences.observe(difference)
        if difference <= allowed.difference:
            self._equal.inc()
            return
        self._differs.inc()
        _log.error(
            "answer_differs_from_oracle",
            request_id=request_id,
            difference=difference,
            allowed=allowed.difference,
            unit=allowed.unit,
        )


def _largest(logits: Tensor) -> float:
    """The largest absolute value; infinite if any is not a number, 0 of none."""
    if not logits.numel():
        return 0.0
    value = float(logits.abs().max())
    return math.inf if math.isnan(value) else value
