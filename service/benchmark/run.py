"""Owns measuring one shape: contenders take turns in every round, medians are compared.

Never compares single times: the machine's noise hits all contenders of a round alike.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from model.engine.encoder import EncodeJob
from model.engine.mfalcon import microbatches
from service.benchmark.full_forward import FullForward
from service.benchmark.shapes import Shape, Workload, workload

BATCH = 64
"""Candidates in one batch of full forwards."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """Median milliseconds by contender, ratios between them, and how far their scores differ."""

    shape: Shape
    microbatch: int
    rounds: int
    median_ms: dict[str, float]
    ratios: dict[str, float]
    max_abs_diff: float


def measure(
    shape: Shape, *, microbatch: int, rounds: int, seed: int, on_round: Callable[[int, int], None]
) -> Measurement:
    """Loop of full forwards, batched full forwards, the cached pass, and prefill with it."""
    work = workload(shape, seed)
    full = FullForward(work)
    contenders: dict[str, Callable[[], Tensor]] = {
        "cached": _cached(work, microbatch),
        "prefill_and_cached": lambda: _cached(work, microbatch)(),  # prefills each time
        "batched": lambda: torch.cat([full.score(part) for part in work.candidates.split(BATCH)]),
        "loop": lambda: torch.cat([full.score(part) for part in work.candidates.split(1)]),
    }
    scores = {name: run() for name, run in contenders.items()}  # also the warm-up
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for done in range(rounds):
        on_round(done, rounds)
        for name, run in contenders.items():
            times[name].append(_seconds(run))
    median = {name: statistics.median(seconds) for name, seconds in times.items()}
    return Measurement(
        shape=shape,
        microbatch=microbatch,
        rounds=rounds,
        median_ms={name: 1000 * seconds for name, seconds in median.items()},
        ratios={
            "loop_over_cached": median["loop"] / median["cached"],
            "batched_over_cached": median["batched"] / median["cached"],
            "loop_over_prefill_and_cached": median["loop"] / median["prefill_and_cached"],
        },
        max_abs_diff=max(float((s - scores["loop"]).abs().max()) for s in scores.values()),
    )


def _cached(work: Workload, microbatch: int) -> Callable[[], Tensor]:
    (encoded,) = work.engine.encode(
        [EncodeJob(work.engine.empty_state(), work.history, work.request_time)]
    )
    live = encoded.live
    assert live is not None

    def run() -> Tensor:
        batches = microbatches(live, work.candidates, microbatch)
        return torch.cat([logits for batch in batches for logits in work.engine.score([batch])])

    return run


def _seconds(run: Callable[[], Tensor]) -> float:
    """Fast contenders are repeated until the clock's grain and a stray interrupt do not matter."""
    start, repeats = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < 0.05 or not repeats:
        run()
        repeats += 1
    return elapsed / repeats
