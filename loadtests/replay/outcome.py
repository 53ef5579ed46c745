"""What a replay showed of the model: hits, gains and calibration, each with its standard error.

Owns these figures; defined as `mfalcon evaluate` defines them. Never sends anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log2, sqrt
from statistics import fmean, pstdev
from typing import Any, Final

CUTOFF: Final = 10
NUM_BINS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the service said of one event before it was told."""

    rank: int | None  # among all items not seen, by retrieval; None: not among those it gave
    place: int | None  # in the list as it was given, by the value formula
    action: str  # that happened
    probabilities: Mapping[str, float] | None  # of each action; None: not predicted


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and its standard error."""

    value: float
    error: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        return cls(fmean(values), pstdev(values) / sqrt(len(values)))


@dataclass(frozen=True, slots=True)
class Calibration:
    """Of one action: how often it happened, how often it was expected, and how far off a
    prediction is, over bins of equal width."""

    share: float
    predicted: float
    calibration_error: float


def hit_rate(places: Sequence[int | None]) -> Estimate:
    """HR@CUTOFF."""
    return Estimate.of([float(_is_hit(place)) for place in places])


def gain(places: Sequence[int | None]) -> Estimate:
    """NDCG@CUTOFF: of one right item, 1 / log2(place + 2)."""
    return Estimate.of(
        [1 / log2(place + 2) if place is not None and _is_hit(place) else 0.0 for place in places]
    )


def calibration(outcomes: Sequence[Outcome]) -> dict[str, Calibration]:
    """Of each action, over the events whose action was predicted."""
    told = [
        (each.action, each.probabilities) for each in outcomes if each.probabilities is not None
    ]
    actions = sorted({action for _, probabilities in told for action in probabilities})
    return {
        action: _calibration(
            [probabilities[action] for _, probabilities in told],
            [happened == action for happened, _ in told],
        )
        for action in actions
    }


def place_of(item_id: str, items: Sequence[Mapping[str, Any]]) -> tuple[int | None, int | None]:
    """(rank by retrieval, place in the list) of an item among those that an answer gave.

    Items of equal retrieval score are taken to come before.
    """
    place = next((n for n, each in enumerate(items) if each["item_id"] == item_id), None)
    if place is None:
        return None, None
    own = items[place]["retrieval_score"]
    return sum(each["retrieval_score"] >= own for each in items) - 1, place


def _is_hit(place: int | None) -> bool:
    return place is not None and place < CUTOFF


def _calibration(predicted: Sequence[float], happened: Sequence[bool]) -> Calibration:
    bins: dict[int, list[int]] = {}
    for index, probability in enumerate(predicted):
        bins.setdefault(min(int(probability * NUM_BINS), NUM_BINS - 1), []).append(index)
    off = sum(
        abs(sum(happened[index] for index in inside) - sum(predicted[index] for index in inside))
        for inside in bins.values()
    )
    return Calibration(fmean(happened), fmean(predicted), off / len(predicted))
