"""Owns taking turns: every contender once in each round, so that noise hits all of them alike.

Never compares single times.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from typing import TypeAlias, TypeVar

T = TypeVar("T")

_TURN_S = 0.05
"""A fast contender is repeated in its turn, until the clock's grain and a stray interrupt do not
matter."""


_LONG_S = 0.25
"""A faster contender has a first call that does not count: it finds memory and caches as the one
before it left them, which may have taken all of both."""

OnTurn: TypeAlias = Callable[[str, int, int], None]
"""Gets whose turn it is, how many turns are done, and of how many."""


def take_turns(
    contenders: Mapping[str, Callable[[], T]], *, rounds: int, on_turn: OnTurn
) -> dict[str, list[T]]:
    """What each contender gave, one result a round; a first round only warms up."""
    results: dict[str, list[T]] = {name: [] for name in contenders}
    total = (rounds + 1) * len(contenders)
    for turn, (round_, name) in enumerate(product(range(rounds + 1), contenders)):
        on_turn(name, turn, total)
        result = contenders[name]()
        if round_:
            results[name].append(result)
    return results


def time_in_turns(
    contenders: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    on_turn: OnTurn,
    finish: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Seconds of one call by contender, one figure a round.

    `finish` waits for what a call has only begun, as on a GPU.
    """
    timed = {name: partial(_turn_s, run, finish) for name, run in contenders.items()}
    return take_turns(timed, rounds=rounds, on_turn=on_turn)


def once_s(run: Callable[[], object]) -> float:
    """Seconds of one call, which is one of many."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def medians_ms(times: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: 1000 * statistics.median(seconds) for name, seconds in times.items()}


def _turn_s(run: Callable[[], object], finish: Callable[[], None]) -> float:
    finish()
    start, repeats = time.perf_counter(), 0
    run()
    finish()
    if (first_s := time.perf_counter() - start) > _LONG_S:
        return first_s
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < _TURN_S or not repeats:
        run()
        finish()
        repeats += 1
    return elapsed / repeats
