"""Owns comparing the simulation with the service it was measured on, at rates it was not fitted to.

The simulated requests come at the very times at which those that were measured were due, so chance
is the same for both; costs and waiting are not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from service.batch import Work
from service.benchmark.load.figures import percentile
from service.planning.costs import Costs
from service.planning.observe import Observed, waited_for_cores
from service.planning.rig import PATIENT_MS
from service.planning.simulation import Asked, simulate

SHARES = (0.4, 0.6)
"""Of the most that waiting clients are answered; the costs are fitted at that and at a quarter."""


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
    """One rate, all rounds together."""

    offered_per_s: float
    of_peak: float
    num_measured: int  # answered whole
    waited_for_cores: float  # seconds that the event loop was kept waiting, for each it ran
    figures: list[Compared]


def checked(costs: Costs, of_peak: float, loads: Sequence[Observed]) -> Checked:
    """What was measured at a rate, against a simulation of the same requests."""
    work = Work(2, costs.num_candidates)
    outcomes = [
        simulate(costs, [Asked(at_s, work) for at_s in each.load["asked_s"]], PATIENT_MS)
        for each in loads
    ]
    predicted_ms = [ms for outcome in outcomes for ms in outcome.latencies_ms]
    measured_ms = [ms for each in loads for ms in each.load["latencies_ms"]]
    elapsed_s = sum(each.load["elapsed_s"] for each in loads)
    predicted_per_s = len(predicted_ms) / sum(outcome.elapsed_s for outcome in outcomes)
    figures = [Compared("answers/s", predicted_per_s, len(measured_ms) / elapsed_s)]
    figures += [
        Compared(f"p{each} ms", percentile(predicted_ms, each), percentile(measured_ms, each))
        for each in (50, 90, 99)
    ]
    return Checked(
        offered_per_s=sum(len(each.load["asked_s"]) for each in loads) / elapsed_s,
        of_peak=of_peak,
        num_measured=len(measured_ms),
        waited_for_cores=waited_for_cores(loads),
        figures=figures,
    )
