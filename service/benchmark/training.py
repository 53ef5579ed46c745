"""Owns measuring an epoch of training: this project's trainer against a plain padded one.

Never in one process: the plain one keeps the allocator as it comes. They take turns over the same
windows, so that the machine's noise hits both alike.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from service.benchmark.worker import worker

CONTENDERS = ("mfalcon", "plain")
_WORKER = "service.benchmark.training_worker"


@dataclass(frozen=True, slots=True)
class TrainingMeasurement:
    """One epoch each, in `rounds` parts of the same steps."""

    seconds: dict[str, float]
    ratio: float  # median over the rounds of plain over mfalcon
    ratios: list[float]
    num_events: int
    num_steps: int
    loss_difference: float  # of the first step, without dropout, from the same weights


def measure_training(
    data: str, *, rounds: int, threads: int, seed: int, on_round: Callable[[int, int], None]
) -> TrainingMeasurement:
    """One epoch over `data`: 8 layers, width 50, 2 heads, windows of 200, full softmax.

    Raises:
        RuntimeError: a contender could not start; its message went to standard error.
    """
    more = (data, str(threads), str(seed))
    with (
        worker(_WORKER, "mfalcon", *more) as mine,
        worker(_WORKER, "plain", *more) as plain,
    ):
        facts, plain_facts = mine.answer(), plain.answer()
        num_steps = facts["steps"]
        seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
        for done in range(rounds):
            on_round(done, rounds)
            steps = list(range(done, num_steps, rounds))
            seconds["mfalcon"].append(mine.ask(steps)["seconds"])
            seconds["plain"].append(plain.ask(steps)["seconds"])
        pairs = zip(seconds["plain"], seconds["mfalcon"], strict=True)
        ratios = [slow / fast for slow, fast in pairs]
        return TrainingMeasurement(
            seconds={name: sum(parts) for name, parts in seconds.items()},
            ratio=statistics.median(ratios),
            ratios=ratios,
            num_events=facts["events"],
            num_steps=num_steps,
            loss_difference=abs(facts["loss"] - plain_facts["loss"]),
        )
