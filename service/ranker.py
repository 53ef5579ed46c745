"""Owns what the engine thread does for a batch of jobs: one encode, one retrieval, then scoring.

Never waits and never touches the store. A request is settled with its own last microbatch, or once
a look between two passes finds its deadline gone; its mates go on without it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from model.engine.encoder import Encoded, EncodeJob
from model.engine.engine import Engine
from model.engine.mfalcon import Microbatch
from model.engine.state import UserState
from service.batch import Pace
from service.metrics import Metrics
from service.ranking import ExtendJob, Ranking, RankJob, retrieved
from service.scheduler import Job, Ticket

_LEAST_PASS: Final = 32
"""Candidates; a pass of fewer costs as much."""


class Ranker:
    """Runs batches on one engine."""

    def __init__(self, engine: Engine, pace: Pace, metrics: Metrics, *, pass_rows: int) -> None:
        """`pass_rows`: candidates scored in one pass, whosoever they are."""
        self._engine, self._pace, self._metrics = engine, pace, metrics
        self._pass_rows = pass_rows

    def run(self, tickets: Sequence[Ticket[Any]]) -> None:
        """Settle every ticket, each as soon as it is done."""
        self._metrics.batch_requests.observe(len(tickets))
        self._metrics.batch_rows.observe(sum(ticket.work.num_rows for ticket in tickets))
        requests = self._encode(tickets)
        while requests:
            done, requests = _parted(requests)
            chosen = self._next_pass(requests)
            # Not before: the event loop, which is told, would take the interpreter from this
            # thread, which has little need of it while a pass runs.
            for request in done:
                request.finish()
            if chosen:
                self._score(chosen)

    def _encode(self, tickets: Sequence[Ticket[Any]]) -> "list[_Request]":
        """One jagged pass. Jobs for a state alone are done with it; the requests are to score."""
        began_s = time.monotonic()
        try:
            encoded = self._engine.encode([_encode_job(ticket.job) for ticket in tickets])
            lives = [each.live for each in encoded if each.live is not None]
            retrieval = iter(self._engine.retrieve_all(lives))
        except Exception as error:
            if len(tickets) == 1:
                tickets[0].fail(error)
                return []
            # Most likely one job is at fault, which is to fail alone.
            return [request for ticket in tickets for request in self._encode([ticket])]
        together = _Together.of(encoded, began_s)
        num_rows = sum(ticket.work.encode_rows for ticket in tickets)
        self._pace.encoded(num_rows, together.ended_s - began_s)
        requests = []
        for ticket, each in zip(tickets, encoded, strict=True):
            if each.live is None:
                ticket.finish(each.state)
                continue
            logits = next(retrieval)
            try:
                requests.append(_Request(self._engine, ticket, each, logits, together))
            except Exception as error:
                ticket.fail(error)
        return requests

    def _next_pass(self, requests: "Sequence[_Request]") -> "list[tuple[_Request, Microbatch]]":
        """Microbatches of different requests.

        What is due first comes first, but a long list gives way by as much as it would take. A pass
        is no longer than the nearest deadline leaves time for.
        """
        row_s = self._pace.candidate_s
        left_s = min((request.deadline.remaining_s for request in requests), default=0.0)
        size = room = int(min(self._pass_rows, max(_LEAST_PASS, left_s / row_s)))
        chosen = []
        for request in sorted(requests, key=lambda r: r.deadline.at_s + r.num_left * row_s):
            count = min(size, request.num_left)
            if count <= room:
                room -= count
                chosen.append((request, request.microbatch(count)))
        return chosen

    def _score(self, chosen: "Sequence[tuple[_Request, Microbatch]]") -> None:
        """One pass."""
        began_s = time.monotonic()
        for request, _ in chosen:
            request.tell_state()
        try:
            parts = self._engine.score([batch for _, batch in chosen])
        except Exception as error:
            for request, _ in chosen:
                request.ticket.fail(error)
            return
        for (request, _), logits in zip(chosen, parts, strict=True):
            request.add(logits)
        self._pace.scored(sum(map(len, parts)), time.monotonic() - began_s)


@dataclass(frozen=True, slots=True)
class _Together:
    """The encode pass that a request was in."""

    num_jobs: int
    num_rows: int  # beside the pending ones
    began_s: float  # time.monotonic()
    ended_s: float

    @classmethod
    def of(cls, encoded: Sequence[Encoded], began_s: float) -> "_Together":
        num_rows = sum(max(each.num_encoded - 1, 0) for each in encoded)
        return cls(len(encoded), num_rows, began_s, time.monotonic())


class _Request:
    """A request between its encode and its last microbatch."""

    def __init__(
        self,
        engine: Engine,
        ticket: Ticket[Ranking],
        encoded: Encoded,
        retrieval: Tensor,
        together: _Together,
    ) -> None:
        """`retrieval`: logits of the whole catalogue."""
        assert isinstance(ticket.job, RankJob)
        assert encoded.live is not None
        self.ticket, self.deadline = ticket, ticket.job.deadline
        self._shortcut = ticket.job.shortcut
        self._on_state: Callable[[UserState | None], None] | None = ticket.job.on_state
        self._encoded, self._live, self._together = encoded, encoded.live, together
        self._order, self._retrieval = retrieved(retrieval, ticket.job)
        self._num_actions = len(engine.config.actions)
        self._logits: list[Tensor] = []
        self.num_left = self._order.shape[0]

    def tell_state(self) -> None:
        """Once, if somebody listens."""
        if self._on_state is not None:
            state = self._encoded.state if self._shortcut is None else None
            self.ticket.tell(self._on_state, state)
            self._on_state = None

    @property
    def is_over(self) -> bool:
        """Settled, or nobody waits any more."""
        return self.ticket.is_settled or self.ticket.is_given_up

    @property
    def is_done(self) -> bool:
        """There is nothing left to score, or no time."""
        return not self.num_left or self.deadline.expired

    def microbatch(self, count: int) -> Microbatch:
        """The next candidates."""
        start = self._order.shape[0] - self.num_left
        return Microbatch(self._live, self._order[start : start + count])

    def add(self, logits: Tensor) -> None:
        """Action logits of the next candidates."""
        self._logits.append(logits)
        self.num_left -= logits.shape[0]

    def finish(self) -> None:
        self.tell_state()
        self.ticket.finish(self._ranking())

    def _ranking(self) -> Ranking:
        together = self._together
        parts = self._logits or [torch.empty(0, self._num_actions)]
        return Ranking(
            state=self._encoded.state,
            shortcut=None if self._shortcut is None else self._shortcut.name,
            num_reused=self._encoded.num_reused,
            num_encoded=self._encoded.num_encoded,
            order=self._order.cpu(),
            retrieval=self._retrieval.cpu(),
            logits=(parts[0] if len(parts) == 1 else torch.cat(parts)).cpu(),
            num_jobs=together.num_jobs,
            num_rows=together.num_rows,
            started_s=together.began_s,
            encode_ms=(together.ended_s - together.began_s) * 1000,
            score_ms=(time.monotonic() - together.ended_s) * 1000,
        )


def _parted(requests: Sequence[_Request]) -> tuple[list[_Request], list[_Request]]:
    """Those to finish, and those to score."""
    done: list[_Request] = []
    waiting: list[_Request] = []
    for request in requests:
        if not request.is_over:
            (done if request.is_done else waiting).append(request)
    return done, waiting


def _encode_job(job: Job[Any]) -> EncodeJob:
    if isinstance(job, RankJob):
        return EncodeJob(job.state, job.ranked_by, job.request_time)
    assert isinstance(job, ExtendJob)
    return EncodeJob(job.state, job.history)
