"""Owns simulating the very requests that were measured, so that chance is the same for both.

A percentile is that of a usual round, the median of all: in that of all requests together a round
that another program spoilt would be most of the slowest.
"""

import math
import statistics
from collections.abc import Sequence

from service.batch import Work
from service.benchmark.load.figures import percentile
from service.planning.costs import Costs
from service.planning.observe import Observed
from service.planning.rig import PATIENT_MS
from service.planning.simulation import Asked, Outcome, simulate


def work_of(costs: Costs) -> Work:
    """Of a request like those that were measured."""
    return Work(2, costs.num_candidates)


def replayed(costs: Costs, loads: Sequence[Observed]) -> list[Outcome]:
    """The requests of each load, at the times at which they were due."""
    work = work_of(costs)
    return [
        simulate(
            costs,
            [Asked(at_s, work) for at_s in each.load["asked_s"]],
            PATIENT_MS,
            noise_from_s=place / len(loads) * costs.noise[-1][0],  # of about the same round
        )
        for place, each in enumerate(loads)
    ]


def predicted_ms(outcomes: Sequence[Outcome], percent: int) -> float:
    return _usual([outcome.latencies_ms for outcome in outcomes], percent)


def measured_ms(loads: Sequence[Observed], percent: int) -> float:
    return _usual([each.load["latencies_ms"] for each in loads], percent)


def _usual(rounds: Sequence[Sequence[float]], percent: int) -> float:
    """Longer than any where nothing was answered whole."""
    return statistics.median(percentile(each, percent) if each else math.inf for each in rounds)
