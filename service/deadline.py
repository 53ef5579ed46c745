"""Owns the deadline of a request: one point in monotonic time, carried to the last microbatch."""

import time
from dataclasses import dataclass
from typing import Self


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
