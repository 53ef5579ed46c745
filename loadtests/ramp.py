"""How much a service takes: rates that rise until it no longer keeps up, then ever closer.

Owns which rate comes next and what the rates together say. Never sends anything.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from loadtests.record import Sample
from loadtests.summary import percentile

GROWTH: Final = 1.5
KEEPS_UP: Final = 0.9
"""Share of what is sent that a service answers in time as long as it is not saturated."""
HALVINGS: Final = 3
"""Of the step in which the budget was broken: the rate found is within 6% of the last that kept."""
MOST_STEPS: Final = 24


@dataclass(frozen=True, slots=True)
class Step:
    """What became of one rate."""

    rate: float
    good_per_s: float  # answered in time
    good_share: float  # of what was sent
    whole_share: float  # complete, of what was answered
    p99_ms: float | None  # of all that was sent; None: more than a hundredth failed

    @classmethod
    def of(cls, rate: float, seconds: float, samples: Sequence[Sample], budget_ms: float) -> "Step":
        """Per second of the load or, where answers came late, of the time until the last came."""
        ended = max((each.at_s + each.latency_ms / 1000 for each in samples), default=0.0)
        began = min((each.at_s for each in samples), default=0.0)
        lasted_s = max(seconds, ended - began)
        answered = [each for each in samples if each.status == 200]
        num_good = sum(each.latency_ms <= budget_ms for each in answered)
        latencies = sorted(
            each.latency_ms if each.status == 200 else float("inf") for each in samples
        )
        p99_ms = percentile(latencies, 99)
        return cls(
            rate=rate,
            good_per_s=num_good / lasted_s,
            good_share=num_good / max(len(samples), 1),
            whole_share=sum(each.complete for each in answered) / max(len(answered), 1),
            p99_ms=None if p99_ms == float("inf") else p99_ms,
        )

    def keeps(self, budget_ms: float) -> bool:
        return self.p99_ms is not None and self.p99_ms <= budget_ms

    @property
    def is_saturated(self) -> bool:
        """Whether the service answered less, in time, than it was sent."""
        return self.good_share < KEEPS_UP


@dataclass(frozen=True, slots=True)
class Ramp:
    steps: list[Step]
    budget_ms: float

    @property
    def saturation_per_s(self) -> float:
        """The most that was answered in time."""
        return max(step.good_per_s for step in self.steps)

    @property
    def best_rate(self) -> float | None:
        """The highest rate that kept p99 within the budget; None: none did."""
        kept = [step.rate for step in self.steps if step.keeps(self.budget_ms)]
        return max(kept, default=None)


async def ramp(
    measure: Callable[[float], Awaitable[Step]], *, first_rate: float, budget_ms: float
) -> Ramp:
    """Raise the rate until the service is saturated, then look where p99 left the budget."""
    steps = [await measure(first_rate)]
    while not steps[-1].is_saturated and len(steps) < MOST_STEPS:
        steps.append(await measure(steps[-1].rate * GROWTH))
    kept = max((step.rate for step in steps if step.keeps(budget_ms)), default=0.0)
    broke = min((step.rate for step in steps if step.rate > kept), default=0.0)
    for _ in range(HALVINGS if broke and kept else 0):
        middle = (kept + broke) / 2
        steps.append(await measure(middle))
        kept, broke = (middle, broke) if steps[-1].keeps(budget_ms) else (kept, middle)
    return Ramp(steps, budget_ms)
