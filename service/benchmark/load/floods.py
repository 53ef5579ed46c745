"""Owns what is read off floods: what was answered, refused and failed. Never sends anything."""

from dataclasses import dataclass
from typing import Any

from service.benchmark.load.figures import percentile


@dataclass(frozen=True, slots=True)
class Beside:
    """What became of a closed load, and of a flood that was refused elsewhere meanwhile."""

    answered_per_s: float  # within the budget
    refused_p99_ms: float


@dataclass(frozen=True, slots=True)
class Flood:
    """What became of one open load."""

    times_peak: float
    peak_per_s: float  # of clients that wait, before and after, on average
    offered_per_s: float
    answered_per_s: float  # within the budget, cut short or not
    answered_share: float  # of the requests that were not refused
    whole_share: float  # with every candidate scored, of the answers
    num_refused: int  # 429
    num_failed: int  # other statuses
    refused_p99_ms: float | None
    resident_bytes: int  # of the service's process afterwards
    beside: Beside | None  # None: not beyond the peak

    @property
    def share(self) -> float:
        """Of the peak."""
        return self.answered_per_s / self.peak_per_s


def flood_of(
    multiple: float,
    peak_per_s: float,
    load: dict[str, Any],
    resident_bytes: int,
    beside: Beside | None,
) -> Flood:
    """From what the client said."""
    num_whole, refused_ms = len(load["latencies_ms"]), load["refused_ms"]
    num_within = _num_in_time(load)
    num_answers = num_whole + load["num_cut"]
    return Flood(
        times_peak=multiple,
        peak_per_s=peak_per_s,
        offered_per_s=load["num_offered"] / load["elapsed_s"],
        answered_per_s=num_within / load["elapsed_s"],
        answered_share=num_within / max(load["num_offered"] - len(refused_ms), 1),
        whole_share=num_whole / max(num_answers, 1),
        num_refused=len(refused_ms),
        num_failed=load["num_failed"] - len(refused_ms),
        refused_p99_ms=percentile(refused_ms, 99) if refused_ms else None,
        resident_bytes=resident_bytes,
        beside=beside,
    )


def beside_of(load: dict[str, Any], refused: dict[str, Any]) -> Beside:
    """From what the clients of both said."""
    refused_p99_ms = percentile(refused["refused_ms"], 99)
    return Beside(answered_per_s=in_time_per_s(load), refused_p99_ms=refused_p99_ms)


def in_time_per_s(load: dict[str, Any]) -> float:
    """Answers within the budget, cut short or not."""
    return _num_in_time(load) / float(load["elapsed_s"])


def ratios_of(floods: list[Flood]) -> dict[str, float | None]:
    """The named figures; the first flood is the one below the peak."""
    below, *over = floods
    refused = [flood.refused_p99_ms for flood in over if flood.refused_p99_ms is not None]
    besides = [(flood.answered_per_s, flood.beside) for flood in over if flood.beside is not None]
    return {
        "answered_below": below.answered_share,
        "whole_below": below.whole_share,
        "overload_over_peak": min((flood.share for flood in over), default=0.0),
        "overload_over_elsewhere": min(
            (per_s / beside.answered_per_s for per_s, beside in besides), default=None
        ),
        "refused_p99_ms": max(refused, default=None),
        "refused_elsewhere_p99_ms": max((b.refused_p99_ms for _, b in besides), default=None),
        "resident_growth": max(flood.resident_bytes for flood in floods) / below.resident_bytes,
    }


def _num_in_time(load: dict[str, Any]) -> int:
    return int(load["num_within"] + load["num_cut_within"])
