"""Owns turning a ranking into the answer of the HTTP contract, and counting what it left out.

Never ranks. `degraded` names every shortcut taken; `complete` is false when one of them left out
something that the model would have said.
"""

import time

from model.checkpoint import Checkpoint
from model.engine.engine import Engine
from service.metrics import Metrics
from service.ranking import (
    SHORTENED_HISTORY,
    STALE_HISTORY,
    Ranked,
    Ranking,
    RankJob,
    by_prior,
)
from service.schemas import (
    CacheInfo,
    ModelInfo,
    RankedItem,
    RecommendRequest,
    RecommendResponse,
    Timing,
)
from service.slate import SHORT_SLATE, Slate
from service.states import Loaded
from service.updates import Offer

NO_HISTORY = "no_history"
"""No known event of this user: ranked by the prior, which is complete as far as the model goes."""

HISTORY_INCOMPLETE = "history_incomplete"
"""Fewer events are held than `history_size` tells; send them with history_mode replace."""

HISTORY_UNAVAILABLE = "history_unavailable"
"""The history provider was asked and gave no answer that can be used: ranked by what is held."""

STORE_UNAVAILABLE = "store_unavailable"
"""The state could not be read: ranked by the events of the request, and a copy if one is held."""

UNSCORED_CANDIDATES = "unscored_candidates"
"""The deadline came before all candidates were scored; the rest follow in retrieval order."""

POPULARITY = "popularity"
"""The deadline came before the engine was free: popularity order, the model was not run."""

_INCOMPLETE = {
    HISTORY_INCOMPLETE,
    HISTORY_UNAVAILABLE,
    STORE_UNAVAILABLE,
    SHORTENED_HISTORY,
    STALE_HISTORY,
    UNSCORED_CANDIDATES,
    SHORT_SLATE,
    POPULARITY,
}

_STAGES = ("queue", "cache", "encode", "score")


class Answering:
    """Makes answers for one checkpoint."""

    def __init__(self, checkpoint: Checkpoint, engine: Engine, metrics: Metrics) -> None:
        self._checkpoint, self._engine, self._metrics = checkpoint, engine, metrics
        fingerprint = checkpoint.digests().fingerprint.hex()
        self.model = ModelInfo(name=checkpoint.name, fingerprint=fingerprint)
        self._reused, self._encoded = map(metrics.rows.labels, ("reused", "encoded"))
        self._scored, self._unscored = map(metrics.candidates.labels, ("scored", "unscored"))
        self._stages = {stage: metrics.stage_seconds.labels(stage) for stage in _STAGES}

    def answer(
        self,
        request: RecommendRequest,
        job: RankJob,
        ranking: Ranking | None,
        loaded: Loaded,
        offer: Offer,
        *,
        request_id: str,
        missing_item_ids: list[str],
        cache_ms: float,
        began_s: float,
    ) -> RecommendResponse:
        """`ranking` is None if the engine was not reached in time."""
        count = request.num_results
        ranked = (
            by_prior(self._engine, job, count)
            if ranking is None
            else ranking.best(self._engine, count)
        )
        degraded = _degraded(request, job, ranking, loaded, offer)
        self._count(ranking, degraded)
        timing = _timing(job, ranking, cache_ms, began_s)
        self._observe(timing)
        return RecommendResponse.model_construct(
            request_id=request_id,
            user_id=request.user_id,
            model=self.model,
            items=[self._item(item, request) for item in ranked],
            complete=not _INCOMPLETE.intersection(degraded),
            degraded=degraded,
            missing_item_ids=missing_item_ids,
            cache=CacheInfo(
                status=loaded.status,
                tier=loaded.tier,
                reused_events=0 if ranking is None else ranking.num_reused,
                encoded_events=0 if ranking is None else ranking.num_encoded,
            ),
            timing_ms=timing,
        )

    def _item(self, ranked: Ranked, request: RecommendRequest) -> RankedItem:
        items, names = self._checkpoint.items, self._checkpoint.config.actions
        actions = ranked.actions
        item = RankedItem(
            item_id=items.ids[ranked.item],
            score=ranked.value,
            actions=None if actions is None else dict(zip(names, actions, strict=True)),
        )
        if "parts" in request.include:
            item["retrieval_score"] = ranked.retrieval
        if "metadata" in request.include:
            item["metadata"] = items.metadata(ranked.item)
        return item

    def _count(self, ranking: Ranking | None, degraded: list[str]) -> None:
        for reason in degraded:
            self._metrics.degraded.labels(reason).inc()
        if ranking is None:
            return
        self._reused.inc(ranking.num_reused)
        self._encoded.inc(ranking.num_encoded)
        self._scored.inc(len(ranking.logits))
        self._unscored.inc(ranking.num_unscored)

    def _observe(self, timing: Timing) -> None:
        for stage, seconds in self._stages.items():
            seconds.observe(getattr(timing, stage) / 1000)


def _degraded(
    request: RecommendRequest,
    job: RankJob,
    ranking: Ranking | None,
    loaded: Loaded,
    offer: Offer,
) -> list[str]:
    known = job.history.num_known
    reasons = {
        NO_HISTORY: not len(job.history),
        HISTORY_INCOMPLETE: request.history_size is not None and request.history_size > known,
        HISTORY_UNAVAILABLE: offer.lacks_past,
        STORE_UNAVAILABLE: loaded.status == "error" and not offer.replace and offer.past is None,
        SHORTENED_HISTORY: ranking is not None and ranking.shortcut == SHORTENED_HISTORY,
        STALE_HISTORY: ranking is not None and ranking.shortcut == STALE_HISTORY,
        UNSCORED_CANDIDATES: ranking is not None and ranking.num_unscored > 0,
        SHORT_SLATE: isinstance(ranking, Slate) and ranking.is_short,
        POPULARITY: ranking is None,
    }
    return [reason for reason, holds in reasons.items() if holds]


def _timing(job: RankJob, ranking: Ranking | None, cache_ms: float, began_s: float) -> Timing:
    now = time.monotonic()
    started = now if ranking is None else ranking.started_s
    stages = {
        "queue": (started - job.submitted_s) * 1000,
        "cache": cache_ms,
        "encode": 0.0 if ranking is None else ranking.encode_ms,
        "score": 0.0 if ranking is None else ranking.score_ms,
        "total": (now - began_s) * 1000,
    }
    return Timing(**{stage: round(ms, 3) for stage, ms in stages.items()})
