"""Owns what a simulated replica runs on: things that do one after another, on an uneven machine.

Never knows what is done, nor for whom.
"""

from bisect import bisect_left, bisect_right
from random import Random
from typing import Final

from service.planning.costs import Costs

_ALIKE_S: Final = 0.5
"""Requests that came within so long of each other met a machine that was as uneven."""


class Server:
    """One thing after another; `left_s` of the first."""

    def __init__(self) -> None:
        self.left_s: float | None = None
        self.busy_s = 0.0

    def advance(self, seconds: float) -> None:
        if self.left_s is not None:
            self.left_s = max(0.0, self.left_s - seconds)
            self.busy_s += seconds


class Noise:
    """How uneven the machine is, as it was when it was measured, over and over.

    Each request draws what one of those of about that time met. A moment that one request met is
    not to last until the next was measured: as more come, more would meet it.
    """

    def __init__(self, costs: Costs, from_s: float) -> None:
        self._samples, self._from_s, self._draw = costs.noise, from_s, Random(0)
        self._times_s = [at_s for at_s, _, _ in costs.noise]

    def at(self, now_s: float) -> tuple[float, float]:
        """The engine's slowness, and milliseconds that the rest takes longer."""
        times_s = self._times_s
        at_s = (self._from_s + now_s) % (times_s[-1] or 1.0)
        first = bisect_left(times_s, at_s - _ALIKE_S)
        after = bisect_right(times_s, at_s + _ALIKE_S)
        # Where nobody came for longer, the last before.
        place = self._draw.randrange(min(first, max(after - 1, 0)), max(after, 1))
        _, slowness, more_ms = self._samples[place]
        return slowness, more_ms
