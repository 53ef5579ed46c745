"""Owns comparing the simulation with the service it was measured on, at rates it was not fitted to.

The simulated requests come at the very times at which those that were measured were due, so chance
is the same for both; costs and waiting are not.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from service.batch import Work
from service.benchmark.load.figures import percentile
from service.planning.costs import Costs
from service.planning.observe import CLIENTS, Observed, waited_for_cores
from service.planning.rig import PATIENT_MS
from service.planning.simulation import Asked, saturate, simulate

SHARES = (0.4, 0.6)
"""Of the most that waiting clients are answered; the costs are fitted at a quarter."""

_ANSWERS = 1500
"""Of a simulated load."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure."""

    name: str
    predicted: float
    measured: float

    @property
    def ratio(self) -> float:
        return self.predicted / self.measured if self.measured else math.nan


@dataclass(frozen=True, slots=True)
class Checked:
    """One rate."""

    offered_per_s: float
    of_peak: float
    num_measured: int  # answered whole
    waited_for_cores: float  # seconds that the event loop was kept waiting, for each it ran
    figures: list[Compared]


def checked(costs: Costs, of_peak: float, loads: Sequence[Observed]) -> Checked:
    """What was measured at a rate, a load a round, against a simulation of the same requests.

    Percentiles are those of a usual round, the median of all: in those of all requests together a
    round that another program spoilt would be most of the slowest.
    """
    work = Work(2, costs.num_candidates)
    outcomes = [
        simulate(
            costs,
            [Asked(at_s, work) for at_s in each.load["asked_s"]],
            PATIENT_MS,
            noise_from_s=place / len(loads) * costs.noise[-1][0],  # of about the same round
        )
        for place, each in enumerate(loads)
    ]
    predicted_ms = [outcome.latencies_ms for outcome in outcomes]
    measured_ms = [each.load["latencies_ms"] for each in loads]
    num_measured, elapsed_s = sum(map(len, measured_ms)), sum(e.load["elapsed_s"] for e in loads)
    predicted_per_s = sum(map(len, predicted_ms)) / sum(outcome.elapsed_s for outcome in outcomes)
    figures = [Compared("answers/s", predicted_per_s, num_measured / elapsed_s)]
    figures += [
        Compared(f"p{each} ms", _usual(predicted_ms, each), _usual(measured_ms, each))
        for each in (50, 90, 99)
    ]
    return Checked(
        offered_per_s=sum(len(each.load["asked_s"]) for each in loads) / elapsed_s,
        of_peak=of_peak,
        num_measured=num_measured,
        waited_for_cores=waited_for_cores(loads),
        figures=figures,
    )


def peak(costs: Costs) -> Compared:
    """Answers a second to clients that wait; nothing was fitted to it."""
    outcome = saturate(costs, Work(2, costs.num_candidates), CLIENTS, _ANSWERS)
    return Compared("answers/s", outcome.whole_per_s, costs.peak_per_s)


def _usual(rounds: Sequence[Sequence[float]], percent: int) -> float:
    """Longer than any where nothing was answered whole."""
    return statistics.median(percentile(each, percent) if each else math.inf for each in rounds)
