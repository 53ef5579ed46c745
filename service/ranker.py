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
from service.ranking import ExtendJob, Ranking, RankJob, retrieval_order
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
        requests = [request for request in self._encode(tickets) if request.goes_on()]
        while requests:
            self._score(requests)
            requests = [request for request in requests if request.goes_on()]

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

    def _score(self, requests: "Sequence[_Request]") -> None:
        """One pass over microbatches of different requests.

        What is due first comes first, but a long list gives way by as much as it would take. A pass
        is no longer than the nearest deadline leaves time for.
        """
        began_s = time.monotonic()
        row_s = self._pace.candidate_s
        left_s = min(request.deadline.remaining_s for request in requests)
        size = room = int(min(self._pass_rows, max(_LEAST_PASS, left_s / row_s)))
        chosen, batches = [], []
        for request in sorted(requests, key=lambda r: r.deadline.at_s + r.num_left * row_s):
            batch = request.microbatch(size)
            if len(batch.candidates) <= room:
                room -= len(batch.candidates)
                chosen.append(request)
                batches.append(batch)
        try:
            ready = self._engine.prepare(batches)
            for request in chosen:
                # Not before: the event loop, which writes states, would take the interpreter from
                # this thread, which has no need of it from here on.
                request.tell_state()
            parts = self._engine.run(ready)
        except Exception as error:
            for request in chosen:
                request.ticket.fail(error)
            return
        for request, logits in zip(chosen, parts, strict=True):
            request.add(logits)
        self._pace.scored(size - room, time.monotonic() - began_s)


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
        self._order = retrieval_order(retrieval, ticket.job)
        self._retrieval = retrieval[self._order]
        self._logits = [retrieval.new_empty(0, len(engine.config.actions))]
        self.num_left = len(self._order)

    def tell_state(self) -> None:
        """Once, if somebody listens."""
        if self._on_state is not None:
            state = self._encoded.state if self._shortcut is None else None
            self.ticket.tell(self._on_state, state)
            self._on_state = None

    def goes_on(self) -> bool:
        """False: settled, or nobody waits any more."""
        if self.ticket.is_settled or self.ticket.is_given_up:
            return False
        if self.num_left and not self.deadline.expired:
            return True
        self.tell_state()
        self.ticket.finish(self._ranking())
        return False

    def microbatch(self, size: int) -> Microbatch:
        """The next candidates, at most `size`."""
        start = len(self._order) - self.num_left
        return Microbatch(self._live, self._order[start : start + size])

    def add(self, logits: Tensor) -> None:
        """Action logits of the next candidates."""
        self._logits.append(logits)
        self.num_left -= len(logits)

    def _ranking(self) -> Ranking:
        together, state = self._together, self._encoded.state
        return Ranking(
            state=state,
            shortcut=None if self._shortcut is None else self._shortcut.name,
            num_reused=self._encoded.num_reused,
            num_encoded=self._encoded.num_encoded,
            order=self._order.cpu(),
            retrieval=self._retrieval.cpu(),
            logits=torch.cat(self._logits).cpu(),
            num_jobs=together.num_jobs,
            num_rows=together.num_rows,
            started_s=together.began_s,
            encode_ms=(together.ended_s - together.began_s) * 1000,
            score_ms=(time.monotonic() - together.ended_s) * 1000,
        )


def _encode_job(job: Job[Any]) -> EncodeJob:
    if isinstance(job, RankJob):
        return EncodeJob(job.state, job.ranked_by, job.request_time)
    assert isinstance(job, ExtendJob)
    return EncodeJob(job.state, job.history)
