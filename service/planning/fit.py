"""Owns how the costs of a light load change with the load: fitted to loads in between, and to the
most that is answered.

A processor that is kept busy answers a request in less than one that has to wake up for it, or in
more, where cores share what they have; and it is more even. Two factors tell it: of what
everything costs, and of how uneven that is.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Final

from service.benchmark.timing import OnTurn
from service.planning.costs import Costs, Factors
from service.planning.observe import CLIENTS, Observations, Observed
from service.planning.replay import measured_ms, predicted_ms, replayed, work_of
from service.planning.simulation import saturate

_PERCENTS: Final = (50, 75, 90, 99)
_STEP: Final = 0.4
"""Of a factor's logarithm, at first."""
_LEAST_STEP: Final = 0.02
_BOUND: Final = math.log(20)

_ANSWERS: Final = 1500
"""Of a simulated load of clients that wait."""


def fitted_to_loads(costs: Costs, observations: Observations, *, on_turn: OnTurn) -> Costs:
    """The costs, with what each of these loads makes of them."""
    loads = [observations.light, *observations.between]
    found = [Factors(per_s=0.0, cost=1.0, noise=1.0)]
    for place, each in enumerate(loads):
        on_turn("fitting", place, len(loads) + 1)
        found.append(_of_open(costs, each, found[-1]))
    on_turn("fitting", len(loads), len(loads) + 1)
    found.append(_of_full(costs, found[-1]))
    return replace(costs, factors=sorted(found[1:], key=lambda factors: factors.per_s))


def _of_open(costs: Costs, loads: Sequence[Observed], near: Factors) -> Factors:
    """Those with which percentiles are the nearest in relative terms: a compass search from those
    of the next lighter load."""
    measured = [measured_ms(loads, percent) for percent in _PERCENTS]
    per_s = statistics.median(each.per_s for each in loads)

    def made(point: tuple[float, float]) -> Factors:
        cost, noise = map(math.exp, point)
        return Factors(per_s=per_s, cost=cost, noise=noise)

    def error(point: tuple[float, float]) -> float:
        if max(map(abs, point)) > _BOUND:
            return math.inf
        outcomes = replayed(costs.times(made(point)), loads)
        predicted = (predicted_ms(outcomes, percent) for percent in _PERCENTS)
        return sum(math.log(p / m) ** 2 for p, m in zip(predicted, measured, strict=True))

    best, step = (math.log(near.cost), math.log(near.noise)), _STEP
    least = error(best)
    while step > _LEAST_STEP:
        cost, noise = best
        # Noise counts for less than costs do.
        ways = product((-1, 0, 1), repeat=2)
        around = [(cost + a * step / 2, noise + b * step) for a, b in ways if a or b]
        found, point = min((error(point), point) for point in around)
        if found < least:
            least, best = found, point
        else:
            step /= 2
    return made(best)


def _of_full(costs: Costs, near: Factors) -> Factors:
    """Of clients that wait: their latencies tell of each other, so their rate is fitted alone."""
    low, high = 1 / 4, 4.0
    made = replace(near, per_s=costs.peak_per_s)
    while high / low > 1 + _LEAST_STEP:
        cost = math.sqrt(low * high)
        made = replace(made, cost=cost)
        outcome = saturate(costs.times(made), work_of(costs), CLIENTS, _ANSWERS)
        low, high = (low, cost) if outcome.whole_per_s < costs.peak_per_s else (cost, high)
    return made
