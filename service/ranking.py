"""Owns what is asked of the engine for a request, what it answers, and the order of the items.

Never runs the network. Candidates are taken in retrieval order, so that the microbatches spent
before the deadline are the best ones; the rest follow in that order, unscored.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from model.engine.engine import Engine
from model.engine.state import UserState
from model.history import History
from model.top import in_order, top
from service.batch import Pace, Work
from service.deadline import Deadline
from service.job import Job
from service.keys import ANONYMOUS

SHORTENED_HISTORY: Final = "shortened_history"
"""There was no time to encode the whole history: ranked by its newest events."""

STALE_HISTORY: Final = "stale_history"
"""There was no time to encode the newest events: ranked by those before them."""

_LEAST_SCORED: Final = 32
"""Candidates for whose scoring the history gives way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendJob(Job[UserState]):
    """Bring a state to a history. The service's own: no deadline."""

    state: UserState
    history: History
    deadline: None = None
    client: str = ""

    def work(self) -> Work:
        return Work(_num_new(self.state, self.history), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankJob(Job["Ranking"]):
    """Rank candidates for a history, as of the request's time.

    What is seen is left out by the whole history, whatever it is ranked by.
    """

    state: UserState
    history: History
    request_time: int  # Unix seconds
    candidates: Tensor | None  # (M,) int64, each once; None: the whole catalogue
    num_retrieved: int  # how many of the catalogue reach the action head
    exclude_seen: bool
    deadline: Deadline
    submitted_s: float  # time.monotonic()
    client: str = ANONYMOUS
    on_state: Callable[[UserState | None], None] | None = None
    """Called on the event loop with the state of the history, before candidates are scored; None
    if it was not made."""
    shortcut: "Shortcut | None" = None

    @property
    def ranked_by(self) -> History:
        return self.history if self.shortcut is None else self.shortcut.history

    def work(self) -> Work:
        return Work(_num_new(self.state, self.ranked_by), self._num_candidates)

    def within(self, seconds: float, pace: Pace) -> "RankJob":
        """Ranked by less of the history if there is no time to encode what is new of it.

        By the last state, or by the newest events from nothing, whichever has more. What is left
        when nothing can be paid is little, and is tried: a pace that is wrong is set right by it.
        """
        num_candidates = min(self._num_candidates, _LEAST_SCORED)
        if pace.seconds(Work(len(self.history), num_candidates)) <= seconds:
            return self  # whatever is reused of it
        least = Work(_num_new(self.state, self.history), num_candidates)
        if least.num_events <= 1 or pace.seconds(least) <= seconds:
            return self
        num_paid = max(1, pace.num_events(seconds, least.num_candidates))
        held = self.state.history
        is_paid = _num_new(self.state, held) <= num_paid < len(held)
        if is_paid and _is_followed_by(held, self.history):
            return replace(self, shortcut=Shortcut(STALE_HISTORY, held))
        newest = self.history.cut(-num_paid, None)
        return replace(self, shortcut=Shortcut(SHORTENED_HISTORY, newest))

    @property
    def _num_candidates(self) -> int:
        return self.num_retrieved if self.candidates is None else len(self.candidates)


@dataclass(frozen=True, slots=True)
class Shortcut:
    """What a request is ranked by instead of its history, for want of time."""

    name: str  # as `degraded` tells it
    history: History


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """What the engine found. `order`, `retrieval` and `logits` lie on the CPU: the list is made of
    them by whoever answers, not on the engine thread."""

    state: UserState
    shortcut: str | None  # its name; the state is that of less than the history, and not to keep
    num_reused: int
    num_encoded: int  # rows run, the pending one included
    order: Tensor  # (M,) int64 items, best retrieval first
    retrieval: Tensor  # (M,) logits in that order
    logits: Tensor  # (S, actions) of the first S of them, those the deadline left time for
    num_jobs: int  # encoded in the same pass, this one included
    num_rows: int  # their event rows, beside the pending ones
    started_s: float  # time.monotonic()
    encode_ms: float  # of that pass
    score_ms: float  # from there to this request's last microbatch

    @property
    def ended_s(self) -> float:
        """time.monotonic()"""
        return self.started_s + (self.encode_ms + self.score_ms) / 1000

    @property
    def num_unscored(self) -> int:
        return len(self.order) - len(self.logits)

    def best(self, engine: Engine, count: int) -> "list[Ranked]":
        """At most `count` items: the scored by value, then the unscored as retrieved."""
        n = len(self.logits)
        probabilities = engine.action_probabilities(self.logits)
        values = engine.values(self.retrieval[:n], probabilities)
        best = values.argsort(descending=True, stable=True).numpy()[:count]
        # A few rows are taken by numpy, which costs less for each than torch.
        columns = (self.order, self.retrieval, values, probabilities)
        rows = zip(*(column.numpy()[best].tolist() for column in columns), strict=True)
        scored = [Ranked(*row) for row in rows]
        if len(scored) == count:
            return scored
        rest = slice(n, n + count - len(scored))
        return scored + _unscored(self.order[rest], self.retrieval[rest])


@dataclass(frozen=True, slots=True)
class Ranked:
    """One item of the answer; `value` and `actions` are None where the deadline came first."""

    item: int
    retrieval: float
    value: float | None
    actions: list[float] | None


def by_prior(engine: Engine, job: RankJob, count: int) -> list[Ranked]:
    """The answer when there is no time for the model: popularity order."""
    prior = engine.network.retrieval.prior
    order, logits = retrieved(prior, job)
    return _unscored(order[:count], logits[:count])


def retrieved(retrieval: Tensor, job: RankJob) -> tuple[Tensor, Tensor]:
    """The job's candidates, best retrieval first, ties in the order given: (M,) int64, and their
    logits (M,), out of those of the whole catalogue."""
    seen = job.history.items.to(retrieval.device) if job.exclude_seen else None
    if job.candidates is None:
        k = min(job.num_retrieved, len(retrieval))
        if seen is not None:
            retrieval = retrieval.index_fill(0, seen, -torch.inf)
            k = min(k, len(retrieval) - len(seen.unique()))
        return top(retrieval, k)
    candidates = job.candidates.to(retrieval.device)
    if seen is not None:
        candidates = candidates[~torch.isin(candidates, seen)]
    return in_order(retrieval, candidates)


def _num_new(state: UserState, history: History) -> int:
    """Rows to encode, the pending one included: few if the history only grew, most of them if an
    event came late, or it was replaced."""
    return len(history) - state.reusable_rows(history)


def _is_followed_by(held: History, history: History) -> bool:
    """Whether the history only grew, of what both windows hold."""
    moved = history.anchor - held.anchor
    if not 0 <= moved < len(held):
        return False
    both = held.cut(moved, None)
    return both.common_prefix(history) == len(both)


def _unscored(order: Tensor, retrieval: Tensor) -> list[Ranked]:
    pairs = zip(order.tolist(), retrieval.tolist(), strict=True)
    return [Ranked(item, logit, None, None) for item, logit in pairs]
