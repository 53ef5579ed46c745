"""The law by which few users, and few items, take most of the traffic.

Owns drawing ranks. Never knows what a rank stands for.
"""

from bisect import bisect
from itertools import accumulate
from random import Random

EXPONENT = 1.0


class Zipf:
    """Draws ranks 0..size-1 with probability proportional to 1 / (rank + 1) ** EXPONENT."""

    def __init__(self, size: int) -> None:
        self._cumulative = list(accumulate((rank + 1) ** -EXPONENT for rank in range(size)))

    def draw(self, rng: Random) -> int:
        last = len(self._cumulative) - 1
        return bisect(self._cumulative, rng.random() * self._cumulative[-1], hi=last)
