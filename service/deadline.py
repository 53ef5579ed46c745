"""Owns the deadline of a request: one point in monotonic time, carried to the last microbatch."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

_SMOOTHING: Final = 0.1
_FADES_S: Final = 0.5
"""What was learned so long ago counts little: a flood that is over makes nobody hurry."""


@dataclass(frozen=True, slots=True, order=True)
class Deadline:
    at_s: float  # time.monotonic()

    @classmethod
    def after_ms(cls, budget_ms: float, *, since_s: float | None = None) -> Self:
        start = time.monotonic() if since_s is None else since_s
        return cls(start + budget_ms / 1000)

    @property
    def remaining_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at_s - time.monotonic())

    @property
    def expired(self) -> bool:
        return time.monotonic() >= self.at_s


class Margin:
    """What answers take from the end of their ranking on: learned, mean and spread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._mean_s, self._spread_s = 0.001, 0.0005
        self._clock, self._learned_s = clock, clock()

    @property
    def seconds(self) -> float:
        return self._mean_s + 2 * self._spread_s

    def learn(self, seconds: float) -> None:
        now_s = self._clock()
        share = max(_SMOOTHING, -math.expm1((self._learned_s - now_s) / _FADES_S))
        self._learned_s = now_s
        self._mean_s += share * (seconds - self._mean_s)
        self._spread_s += share * (abs(seconds - self._mean_s) - self._spread_s)

    def before(self, deadline: Deadline) -> Deadline:
        """When a ranking has to end; half of what is left is the most that is kept from it."""
        return Deadline(deadline.at_s - min(self.seconds, deadline.remaining_s / 2))


class Ending:
    """One answer, from its last ranking until it is out."""

    def __init__(self, margin: Margin) -> None:
        """`margin`: of answers like it."""
        self._margin = margin
        self._ranked_s = -math.inf

    @property
    def seconds(self) -> float:
        """What it takes, most likely."""
        return self._margin.seconds

    def before(self, deadline: Deadline) -> Deadline:
        return self._margin.before(deadline)

    def ranked(self, ended_s: float) -> None:
        """One of its rankings ended then."""
        self._ranked_s = max(self._ranked_s, ended_s)

    def sent(self) -> None:
        """Nothing is left of it to do. The margin learns, if anything was ranked."""
        if math.isfinite(self._ranked_s):
            self._margin.learn(time.monotonic() - self._ranked_s)
