"""Owns the deadline of a request: one point in monotonic time, carried to the last microbatch."""

import time
from dataclasses import dataclass
from typing import Final, Self

_SMOOTHING: Final = 0.1


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
    """What an answer takes from the end of its ranking on: learned, mean and spread."""

    def __init__(self) -> None:
        self._mean_s, self._spread_s = 0.001, 0.0005

    @property
    def seconds(self) -> float:
        return self._mean_s + 2 * self._spread_s

    def learn(self, seconds: float) -> None:
        difference = seconds - self._mean_s
        self._mean_s += _SMOOTHING * difference
        self._spread_s += _SMOOTHING * (abs(difference) - self._spread_s)

    def before(self, deadline: Deadline) -> Deadline:
        """When a ranking has to end; half of what is left is the most that is kept from it."""
        return Deadline(deadline.at_s - min(self.seconds, deadline.remaining_s / 2))
