"""Load that changes: how many users drive at each moment of a run.

Owns the shapes, as phases of a constant number of users. Never knows Locust.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate, pairwise

_STAIRS = (0.2, 0.4, 0.6, 0.8, 1.0)
_TEETH = 3


class Shape(StrEnum):
    """`users` is the most of each."""

    STEADY = "steady"
    STEP = "step"
    SPIKE = "spike"
    SOAK = "soak"
    SAWTOOTH = "sawtooth"


@dataclass(frozen=True, slots=True)
class Phase:
    """`users` drive from `at_s` until `until_s`, seconds since the load began."""

    name: str
    at_s: float
    until_s: float
    users: int


def phases(shape: Shape, *, users: int, seconds: float) -> list[Phase]:
    """A run of `seconds`, one phase after another."""
    match shape:
        case Shape.STEADY:
            return _planned("steady", [1.0], [1.0], users, seconds)
        case Shape.STEP:
            return _planned("step", [1.0] * len(_STAIRS), _STAIRS, users, seconds)
        case Shape.SPIKE:
            # As long before as behind, where one sees whether it comes back.
            return _planned("spike", [2, 1, 2], [0.25, 1.0, 0.25], users, seconds)
        case Shape.SOAK:
            return _planned("soak", [1.0], [0.5], users, seconds)
        case Shape.SAWTOOTH:
            return _planned(
                "sawtooth", [1.0] * len(_STAIRS) * _TEETH, _STAIRS * _TEETH, users, seconds
            )


def _planned(
    name: str, lengths: Sequence[float], shares: Sequence[float], users: int, seconds: float
) -> list[Phase]:
    unit_s = seconds / sum(lengths)
    edges = list(accumulate((length * unit_s for length in lengths), initial=0.0))
    return [
        Phase(f"{name} {number}" if len(shares) > 1 else name, *edge, max(1, round(share * users)))
        for number, (edge, share) in enumerate(zip(pairwise(edges), shares, strict=True), start=1)
    ]
