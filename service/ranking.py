"""Owns what is asked of the engine for a request, what it answers, and the order of the items.

Never runs the network. Candidates are taken in retrieval order, so that the microbatches spent
before the deadline are the best ones; the rest follow in that order, unscored.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from model.engine.engine import Engine
from model.engine.state import UserState
from model.history import History
from service.batch import Work
from service.deadline import Deadline
from service.scheduler import Job

ANONYMOUS: Final = "anonymous"
"""The client of requests without a key."""


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
    """Rank candidates for a history, as of the request's time."""

    state: UserState
    history: History
    request_time: int  # Unix seconds
    candidates: Tensor | None  # (M,) int64, each once; None: the whole catalogue
    num_retrieved: int  # how many of the catalogue reach the action head
    exclude_seen: bool
    deadline: Deadline
    submitted_s: float  # time.monotonic()
    client: str = ANONYMOUS
    on_state: Callable[[UserState], None] | None = None
    """Called on the event loop with the state of the history, before candidates are scored."""

    def work(self) -> Work:
        count = self.num_retrieved if self.candidates is None else len(self.candidates)
        return Work(_num_new(self.state, self.history), count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """What the engine found. `order`, `retrieval` and `logits` lie on the CPU: the list is made of
    them by whoever answers, not on the engine thread."""

    state: UserState
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
    order = retrieval_order(prior, job)[:count]
    return _unscored(order, prior[order])


def retrieval_order(retrieval: Tensor, job: RankJob) -> Tensor:
    """The job's candidates, best retrieval first; ties in the order given. (M,) int64."""
    seen = job.history.items.to(retrieval.device) if job.exclude_seen else None
    if job.candidates is None:
        k = min(job.num_retrieved, len(retrieval))
        if seen is not None:
            retrieval = retrieval.index_fill(0, seen, -torch.inf)
            k = min(k, len(retrieval) - len(seen.unique()))
        return _top(retrieval, k)
    candidates = job.candidates.to(retrieval.device)
    if seen is not None:
        candidates = candidates[~torch.isin(candidates, seen)]
    return candidates[retrieval[candidates].argsort(descending=True, stable=True)]


def _num_new(state: UserState, history: History) -> int:
    """Rows to encode if the history only grew, or was begun anew."""
    kept = state.num_final if state.history.anchor == history.anchor else 0
    return max(0, len(history) - kept)


def _top(scores: Tensor, k: int) -> Tensor:
    """Indices of the k highest, ties by index; `topk` alone leaves ties in any order."""
    if not k:
        return torch.empty(0, dtype=torch.int64, device=scores.device)
    among = (scores >= scores.topk(k).values[-1]).nonzero().flatten()
    return among[scores[among].argsort(descending=True, stable=True)][:k]


def _unscored(order: Tensor, retrieval: Tensor) -> list[Ranked]:
    pairs = zip(order.tolist(), retrieval.tolist(), strict=True)
    return [Ranked(item, logit, None, None) for item, logit in pairs]
