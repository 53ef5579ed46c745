"""Owns comparing the simulation with the service it was measured on, at rates it was not fitted to.

The simulated requests come at the very times at which those that were measured were due, so chance
is the same for both; costs and waiting are not.
"""

from dataclasses import dataclass
from typing import Any

from service.batch import Work
from service.benchmark.load.figures import percentile
from service.benchmark.timing import OnTurn
from service.planning.costs import Costs
from service.planning.rig import PATIENT_MS, Rig
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
        return self.predicted / self.measured if self.measured else float("nan")


@dataclass(frozen=True, slots=True)
class Checked:
    """One rate."""

    offered_per_s: float
    of_peak: float
    num_measured: int  # answered whole
    waited_for_cores: float  # seconds that the event loop was kept waiting, for each it ran
    figures: list[Compared]


def check(rig: Rig, costs: Costs, *, seconds: float, on_turn: OnTurn) -> list[Checked]:
    """Each rate for so long.

    Raises:
        RuntimeError: a process ended, or nothing was answered.
    """
    found = []
    for turn, share in enumerate(SHARES):
        on_turn(f"{share:.0%} of the peak", turn, len(SHARES))
        ran_s, waited_s = rig.loop_s()
        load = rig.open_load(share * costs.peak_per_s, seconds)
        end_s, end_waited_s = rig.loop_s()
        waited = (end_waited_s - waited_s) / (end_s - ran_s)
        found.append(_checked(share, costs, load, waited))
    return found


def _checked(share: float, costs: Costs, load: dict[str, Any], waited: float) -> Checked:
    asked_s, latencies_ms, elapsed_s = load["asked_s"], load["latencies_ms"], load["elapsed_s"]
    work = Work(2, costs.num_candidates)
    outcome = simulate(costs, [Asked(at_s, work) for at_s in asked_s], PATIENT_MS)
    figures = [Compared("answers/s", outcome.whole_per_s, len(latencies_ms) / elapsed_s)]
    figures += [
        Compared(
            f"p{percent} ms",
            percentile(outcome.latencies_ms, percent),
            percentile(latencies_ms, percent),
        )
        for percent in (50, 90, 99)
    ]
    return Checked(len(asked_s) / elapsed_s, share, len(latencies_ms), waited, figures)
