"""Owns the classification of a formulation: may K and V be reused across requests, and why.

Never measures; `mfalcon verify` does. Every reason names a field of the configuration.
"""

from dataclasses import dataclass
from typing import Literal

from model.config import HSTUConfig

Exactness = Literal["exact across requests", "exact within a request only"]


@dataclass(frozen=True, slots=True)
class Cacheability:
    exactness: Exactness
    reasons: tuple[str, ...]


def classify(config: HSTUConfig) -> Cacheability:
    """Every formulation this version can express is exact across requests."""
    divisor = (
        "divisor count: a row divides by the keys it sees, known when the row is made"
        if config.divisor == "count"
        else f"divisor {config.divisor}: a constant of the checkpoint"
    )
    return Cacheability(
        "exact across requests",
        (
            "position bias by i - j: unchanged by appends, clamped past "
            f"max_distance {config.max_distance}",
            "time bias at the next event's time: all rows but the newest are final, "
            "the newest is run at request time",
            divisor,
            "no absolute positions",
            f"window {config.window.capacity}/{config.window.keep}: a full window is re-encoded "
            "from a new anchor instead of dropping events one by one",
        ),
    )
