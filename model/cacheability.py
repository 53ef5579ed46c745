"""Owns the classification of a formulation: may K and V be reused across requests, and why.

Never measures; `mfalcon verify` does. Every reason names a field of the configuration.
"""

from dataclasses import dataclass
from typing import Literal

from model.config import HSTUConfig, Window

Exactness = Literal["exact across requests", "exact within a request only"]


@dataclass(frozen=True, slots=True)
class Cacheability:
    """Rows of one request may always be shared by its candidates; `exactness` is about the next."""

    exactness: Exactness
    reasons: tuple[str, ...]

    @property
    def across_requests(self) -> bool:
        return self.exactness == "exact across requests"


def classify(config: HSTUConfig) -> Cacheability:
    """One reason per part of the formulation that decides; the breaking ones alone, if any."""
    breaking = []
    if config.positions == "end":
        breaking.append("positions end: counted from the newest event, an append moves every row")
    if config.input_times is not None:
        breaking.append("input_times: request time - event time is part of every row")
    if breaking:
        return Cacheability("exact within a request only", tuple(breaking))
    return Cacheability("exact across requests", tuple(_holding(config)))


def _holding(config: HSTUConfig) -> list[str]:
    reasons = []
    if config.max_distance:
        reasons.append(
            "position bias by i - j: unchanged by appends, clamped past "
            f"max_distance {config.max_distance}"
        )
    if config.time_bias is not None:
        reasons.append(
            "time bias at an event's own time: fixed with the event"
            if config.time_query == "self"
            else "time bias at the next event's time: all rows but the newest are final, "
            "the newest is run at request time"
        )
    if config.attention == "softmax":
        reasons.append("softmax over the keys a row sees, which appends do not change")
    elif config.divisor == "count":
        reasons.append("divisor count: a row divides by the keys it sees, known when it is made")
    else:
        reasons.append(f"divisor {config.divisor}: a constant of the checkpoint")
    reasons.append(
        "no absolute positions"
        if config.positions == "none"
        else "positions start: fixed until the window moves, which re-encodes it"
    )
    reasons.append(_window(config.window))
    return reasons


def _window(window: Window) -> str:
    if window.strict:
        return (
            f"window {window.capacity}, strict: appends reuse all rows until it is full; from "
            "then on each drops the oldest event and encodes the window anew"
        )
    return (
        f"window {window.capacity}/{window.keep}: a full window is re-encoded "
        "from a new anchor instead of dropping events one by one"
    )
