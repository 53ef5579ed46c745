"""Owns measuring an epoch of training: this project's trainer against a plain padded one.

Never in one process: the plain one keeps the allocator as it comes. They take turns over the same
windows, so that the machine's noise hits both alike.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

CONTENDERS = ("mfalcon", "plain")


@dataclass(frozen=True, slots=True)
class TrainingMeasurement:
    """One epoch each, in `rounds` parts of the same steps."""

    seconds: dict[str, float]
    ratio: float  # median over the rounds of plain over mfalcon
    ratios: list[float]
    num_events: int
    num_steps: int
    loss_difference: float  # of the first step, without dropout, from the same weights


class _Worker:
    """A running contender, which steps when it is told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.facts = self._read()

    def run(self, steps: list[int]) -> float:
        """Seconds that these steps of the epoch took."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(steps) + "\n")
        self._process.stdin.flush()
        return float(self._read()["seconds"])

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a contender ended early; what it said is above")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def _worker(contender: str, data: str, threads: int, seed: int) -> Iterator[_Worker]:
    command = [sys.executable, "-m", "service.benchmark.training_worker", contender, data]
    with subprocess.Popen(
        [*command, str(threads), str(seed)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield _Worker(process)
        finally:
            process.kill()


def measure_training(
    data: str, *, rounds: int, threads: int, seed: int, on_round: Callable[[int, int], None]
) -> TrainingMeasurement:
    """One epoch over `data`: 8 layers, width 50, 2 heads, windows of 200, full softmax.

    Raises:
        RuntimeError: a contender could not start; its message went to standard error.
    """
    with (
        _worker(CONTENDERS[0], data, threads, seed) as mine,
        _worker(CONTENDERS[1], data, threads, seed) as plain,
    ):
        num_steps = mine.facts["steps"]
        seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
        for done in range(rounds):
            on_round(done, rounds)
            steps = list(range(done, num_steps, rounds))
            seconds["mfalcon"].append(mine.run(steps))
            seconds["plain"].append(plain.run(steps))
        pairs = zip(seconds["plain"], seconds["mfalcon"], strict=True)
        ratios = [slow / fast for slow, fast in pairs]
        return TrainingMeasurement(
            seconds={name: sum(parts) for name, parts in seconds.items()},
            ratio=statistics.median(ratios),
            ratios=ratios,
            num_events=mine.facts["events"],
            num_steps=num_steps,
            loss_difference=abs(mine.facts["loss"] - plain.facts["loss"]),
        )
