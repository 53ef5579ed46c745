"""Owns what the engine thread does for one request: encode, retrieve, score until the deadline.

Never waits and never touches the store. Candidates are taken in retrieval order, so that the
microbatches spent before the deadline are the best ones; the rest follow in that order, unscored.
"""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from model.engine.encoder import Encoded, EncodeJob, LiveUser
from model.engine.engine import Engine
from model.engine.mfalcon import microbatches
from model.engine.state import UserState
from model.history import History
from service.deadline import Deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class RankJob:
    state: UserState
    history: History
    request_time: int  # Unix seconds
    candidates: Tensor | None  # (M,) int64, each once; None: the whole catalogue
    num_retrieved: int  # how many of the catalogue reach the action head
    exclude_seen: bool
    microbatch: int
    deadline: Deadline
    submitted_s: float  # time.monotonic()


@dataclass(frozen=True, slots=True)
class Ranked:
    """One item of the answer; `value` and `actions` are None where the deadline came first."""

    item: int
    retrieval: float
    value: float | None
    actions: list[float] | None


@dataclass(frozen=True, slots=True)
class Ranking:
    encoded: Encoded
    items: list[Ranked]  # best first, the unscored behind the scored
    num_unscored: int
    started_s: float  # time.monotonic()
    encode_ms: float
    score_ms: float


def rank(engine: Engine, job: RankJob) -> Ranking:
    """Runs on the engine thread."""
    started = time.monotonic()
    (encoded,) = engine.encode([EncodeJob(job.state, job.history, job.request_time)])
    assert encoded.live is not None
    retrieval = engine.retrieve(encoded.live)
    encoded_at = time.monotonic()
    order = retrieval_order(retrieval, job)
    logits = _score(engine, encoded.live, order, job)
    items = _answer(engine, order, retrieval[order], logits)
    done = time.monotonic()
    return Ranking(
        encoded,
        items,
        num_unscored=len(order) - len(logits),
        started_s=started,
        encode_ms=(encoded_at - started) * 1000,
        score_ms=(done - encoded_at) * 1000,
    )


def by_prior(engine: Engine, job: RankJob) -> list[Ranked]:
    """The answer when there is no time for the model: popularity order."""
    prior = engine.network.retrieval.prior
    order = retrieval_order(prior, job)
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


def _top(scores: Tensor, k: int) -> Tensor:
    """Indices of the k highest, ties by index; `topk` alone leaves ties in any order."""
    if not k:
        return torch.empty(0, dtype=torch.int64, device=scores.device)
    among = (scores >= scores.topk(k).values[-1]).nonzero().flatten()
    return among[scores[among].argsort(descending=True, stable=True)][:k]


def _score(engine: Engine, live: LiveUser, order: Tensor, job: RankJob) -> Tensor:
    """Action logits of the candidates the deadline left time for, (at most M, actions)."""
    parts = [torch.empty(0, len(engine.config.actions), device=order.device)]
    if len(order):
        for batch in microbatches(live, order, job.microbatch):
            if job.deadline.expired:
                break
            parts.extend(engine.score([batch]))
    return torch.cat(parts)


def _answer(engine: Engine, order: Tensor, retrieval: Tensor, logits: Tensor) -> list[Ranked]:
    n = len(logits)
    probabilities = engine.action_probabilities(logits)
    values = engine.values(retrieval[:n], probabilities)
    best = values.argsort(descending=True, stable=True)
    columns = (order[best], retrieval[best], values[best], probabilities[best])
    scored = [Ranked(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]
    return scored + _unscored(order[n:], retrieval[n:])


def _unscored(order: Tensor, retrieval: Tensor) -> list[Ranked]:
    pairs = zip(order.tolist(), retrieval.tolist(), strict=True)
    return [Ranked(item, logit, None, None) for item, logit in pairs]
