"""Owns what the engine thread does for a batch of jobs: one encode, one retrieval, then scoring
passes, and between them a step of the slates.

Never waits and never touches the store. A request is settled with its own last microbatch, or once
a look between two passes finds its deadline gone; its mates go on without it.
"""

import time
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from torch import Tensor

from model.engine.encoder import Encoded, EncodeJob
from model.engine.engine import Engine
from model.engine.mfalcon import Microbatch
from model.engine.slate import lengthen
from service.batch import Pace, Work
from service.job import Job, Ticket
from service.metrics import Metrics
from service.ranking import ExtendJob, RankJob
from service.scoring import CandidateScoring, Scoring, SlateScoring, Together, parted
from service.slate import SlateJob

_Part: TypeAlias = tuple[CandidateScoring, Microbatch]

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
            done, requests = parted(requests)
            chosen = self._next_pass([r for r in requests if isinstance(r, CandidateScoring)])
            slates = [r for r in requests if isinstance(r, SlateScoring)]
            # Not before: the event loop, which is told, would take the interpreter from this
            # thread, which has little need of it while a pass runs.
            for request in done:
                request.finish()
            if chosen:
                self._score(chosen)
            if slates:
                self._lengthen(slates)

    def _encode(self, tickets: Sequence[Ticket[Any]]) -> list[Scoring]:
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
        together = Together.of(encoded, began_s)
        num_rows = sum(Work(each.num_encoded, 0).encode_rows for each in encoded)
        self._pace.encoded(num_rows, together.ended_s - began_s)
        requests: list[Scoring] = []
        for ticket, each in zip(tickets, encoded, strict=True):
            if each.live is None:
                ticket.finish(each.state)
                continue
            logits = next(retrieval)
            try:
                requests.append(self._scoring(ticket, each, logits, together))
            except Exception as error:
                ticket.fail(error)
        return requests

    def _scoring(
        self, ticket: Ticket[Any], encoded: Encoded, retrieval: Tensor, together: Together
    ) -> Scoring:
        if not isinstance(ticket.job, SlateJob):
            return CandidateScoring(self._engine, ticket, encoded, retrieval, together)
        step_s = self._pace.seconds(ticket.job.size.step)
        return SlateScoring(self._engine, ticket, encoded, retrieval, together, step_s)

    def _next_pass(
        self, requests: Sequence[CandidateScoring]
    ) -> list[tuple[CandidateScoring, Microbatch]]:
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

    def _score(self, chosen: Sequence[_Part]) -> None:
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

    def _lengthen(self, slates: Sequence[SlateScoring]) -> None:
        """Each by an item, all together. Tells nothing of the pace: such passes are short."""
        for request in slates:
            request.tell_state()
        try:
            lengthen(self._engine, [request.beam for request in slates])
        except Exception as error:
            for request in slates:
                request.ticket.fail(error)


def _encode_job(job: Job[Any]) -> EncodeJob:
    if isinstance(job, RankJob):
        return EncodeJob(job.state, job.ranked_by, job.request_time)
    assert isinstance(job, ExtendJob)
    return EncodeJob(job.state, job.history)
