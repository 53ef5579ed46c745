"""Owns comparing the simulation with the service it was measured on, at rates that nothing was
fitted to.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from service.planning.costs import Costs
from service.planning.observe import Observed, waited_for_cores
from service.planning.replay import measured_ms, predicted_ms, replayed

SHARES = (0.4, 0.6)
"""Of the most that waiting clients are answered; the costs are fitted at others."""


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
    """What was measured at a rate, a load a round, against a simulation of the same requests."""
    elapsed_s = sum(each.load["elapsed_s"] for each in loads)
    offered_per_s = sum(len(each.load["asked_s"]) for each in loads) / elapsed_s
    outcomes = replayed(costs.under(offered_per_s), loads)
    num_measured = sum(each.num_answers for each in loads)
    predicted_per_s = sum(len(each.latencies_ms) for each in outcomes) / sum(
        each.elapsed_s for each in outcomes
    )
    figures = [Compared("answers/s", predicted_per_s, num_measured / elapsed_s)]
    figures += [
        Compared(f"p{each} ms", predicted_ms(outcomes, each), measured_ms(loads, each))
        for each in (50, 90, 99)
    ]
    return Checked(
        offered_per_s=offered_per_s,
        of_peak=of_peak,
        num_measured=num_measured,
        waited_for_cores=waited_for_cores(loads),
        figures=figures,
    )
