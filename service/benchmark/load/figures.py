"""Owns what is read off loads: rates and latencies, medians over rounds. Never sends anything."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one kind of load on one service; each a median over rounds."""

    whole_per_s: float  # answered with every candidate scored
    within_per_s: float  # of those, within the budget
    within_share: float  # of the requests offered
    num_cut: int  # answered within the budget but not whole, in all rounds
    num_failed: int  # refused or answered by an error, in all rounds
    p50_ms: float | None  # None where nothing was answered
    p95_ms: float | None
    p99_ms: float | None
    p50_engine_ms: float | None  # as the answers tell it
    p50_stages_ms: dict[str, float]  # each stage that the answers tell


def figures(loads: Sequence[dict[str, Any]]) -> Figures:
    """From what the client said of each round."""
    answered = [load for load in loads if load["latencies_ms"]]
    return Figures(
        whole_per_s=_median([len(x["latencies_ms"]) / x["elapsed_s"] for x in loads]) or 0.0,
        within_per_s=_median([x["num_within"] / x["elapsed_s"] for x in loads]) or 0.0,
        within_share=_median([x["num_within"] / x["num_offered"] for x in loads]) or 0.0,
        num_cut=sum(x["num_cut"] for x in loads),
        num_failed=sum(x["num_failed"] for x in loads),
        p50_ms=_median([percentile(x["latencies_ms"], 50) for x in answered]),
        p95_ms=_median([percentile(x["latencies_ms"], 95) for x in answered]),
        p99_ms=_median([percentile(x["latencies_ms"], 99) for x in answered]),
        p50_engine_ms=_median([percentile(x["engine_ms"], 50) for x in answered]),
        p50_stages_ms={
            stage: statistics.median(percentile(x["stages_ms"][stage], 50) for x in answered)
            for stage in (answered[0]["stages_ms"] if answered else ())
        },
    )


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest of the values that so many per cent of them do not exceed."""
    ascending = sorted(values)
    return ascending[max(-(-percent * len(ascending) // 100), 1) - 1]


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
