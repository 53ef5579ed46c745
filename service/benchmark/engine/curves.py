"""Owns how cost grows: scoring over candidates and over history, one new event over history.

On the hit path nothing may grow faster than linearly; the fitted exponents say whether it does.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from model.engine.encoder import EncodeJob
from model.engine.engine import Engine
from service.benchmark.engine.passes import Pass, Passes
from service.benchmark.engine.users import after, go_live, random_history, state_of
from service.benchmark.shapes import NUM_ITEMS, Shape

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Of the shape's own number of candidates, and of its own length of history."""

_CANDIDATES, _HISTORY, _EXTEND = (
    "score over candidates",
    "score over history",
    "extend over history",
)

LONGEST = 4096
"""Histories beyond the shape's own are made up to this length: encoding them once has a price."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Median milliseconds over a size, and the exponent of size that fits them best.

    1 is linear; a part that does not grow makes it less.
    """

    sizes: list[int]
    median_ms: list[float]
    exponent: float


class Growth:
    """The contenders of the curves of a shape."""

    def __init__(self, engine: Engine, shape: Shape, passes: Passes) -> None:
        counts = [int(shape.num_candidates * factor) for factor in FACTORS]
        lengths = [int(shape.num_events * factor) for factor in FACTORS]
        lengths = [length for length in lengths if length <= max(LONGEST, shape.num_events)]
        self._sizes = {_CANDIDATES: counts, _HISTORY: lengths, _EXTEND: lengths}
        self.contenders: dict[str, Callable[[], object]] = {}
        history = random_history(lengths[-1])
        drawn = torch.randint(NUM_ITEMS, (counts[-1],)).to(engine.device)
        state = engine.empty_state()
        for length in lengths:
            upto = history.cut(0, length)
            state = state_of(engine, upto.cut(0, -1), state)
            live = go_live(engine, upto, state)
            self._add(_EXTEND, length, passes.encode([EncodeJob(state, upto, after(upto))]))
            self._add(_HISTORY, length, passes.score([live], [drawn[: shape.num_candidates]]))
            if length == shape.num_events:
                for count in counts:
                    self._add(_CANDIDATES, count, passes.score([live], [drawn[:count]]))

    def curves(self, median_ms: Mapping[str, float]) -> dict[str, Curve]:
        """From the medians of the contenders."""
        found = {}
        for name, sizes in self._sizes.items():
            times = [median_ms[f"{name}: {size}"] for size in sizes]
            found[name] = Curve(sizes, times, exponent(sizes, times))
        return found

    def _add(self, curve: str, size: int, what: Pass) -> None:
        self.contenders[f"{curve}: {size}"] = what.run


def exponent(sizes: Sequence[float], times: Sequence[float]) -> float:
    """Of the power of size that fits the times best, by least squares in their logarithms."""
    logs = ([math.log(value) for value in values] for values in (sizes, times))
    return statistics.linear_regression(*logs).slope
