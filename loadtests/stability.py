"""What a run showed beside its requests: what its processes grew by, and how soon it recovered.

Owns these figures. Never judges them (slo).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Final, Self

from loadtests.record import EVERY_S, Mark, Reading, Record, Sample
from loadtests.summary import is_answered

PROCESS: Final = "service"
"""The name that its readings go by, with or without a number behind."""

SETTLES: Final = 1 / 6
"""Share of a run in which caches fill: ten minutes of an hour."""

GROWTH: Final = frozenset({"memory_growth", "files_growth", "threads_growth"})
"""The figures that no pause of the machine can change."""

_ENDS: Final = 0.1  # of what is left: compared are its first and its last part
_WHOLE_S: Final = 1.0
_WHOLE: Final = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Stability:
    """None where the run recorded nothing to tell it from."""

    memory_growth: float | None  # of resident bytes, a share
    files_growth: float | None
    threads_growth: float | None
    recovery_s: float | None  # after the slowest fault; infinite: it never did

    @classmethod
    def of(cls, record: Record) -> Self:
        readings = [each for each in record.readings if each.process.startswith(PROCESS)]
        first, last = _ends(readings)
        resident = _medians(first, last, lambda each: each.resident_bytes)
        files = _medians(first, last, lambda each: each.num_files)
        threads = _medians(first, last, lambda each: each.num_threads)
        faults = [mark for mark in record.marks if mark.is_fault]
        times_s = [recovery_s(record, fault) for fault in faults]
        return cls(
            memory_growth=resident and resident[1] / resident[0] - 1,
            files_growth=files and files[1] - files[0],
            threads_growth=threads and threads[1] - threads[0],
            recovery_s=max(times_s, default=None),
        )


def stood_still_s(record: Record) -> float:
    """The longest that the load test itself did not run for: it reads processes once a second.

    Nothing is told of a run that reads none, as that of a service elsewhere.
    """
    times_s = sorted({reading.at_s for reading in record.readings})
    return max((after - before - EVERY_S for before, after in pairwise(times_s)), default=0.0)


def recovery_s(record: Record, fault: Mark) -> float:
    """Seconds from the end of a fault until the answers of the next second are whole.

    Whole: answered, and complete, but for one in a hundred. Infinite where that does not come
    before the next fault or the end of the run.
    """
    until_s = min(
        (mark.at_s for mark in record.marks if mark.is_fault and mark.at_s > fault.at_s),
        default=float("inf"),
    )
    after = [each for each in record.samples if fault.until_s <= each.at_s < until_s]
    starts_s = [fault.until_s] + [
        each.at_s + 1e-9 for each in after if not _is_whole(each)
    ]  # it can only begin behind one that was not
    for start_s in starts_s:
        following = [each for each in after if start_s <= each.at_s < start_s + _WHOLE_S]
        num_whole = sum(map(_is_whole, following))
        if following and num_whole >= _WHOLE * len(following):
            return start_s - fault.until_s
    return float("inf")


def _is_whole(sample: Sample) -> bool:
    return is_answered(sample) and sample.complete


def _ends(readings: Sequence[Reading]) -> tuple[list[Reading], list[Reading]]:
    """Readings of the first and of the last part, once the run has settled."""
    if not readings:
        return [], []
    began_s, ended_s = readings[0].at_s, readings[-1].at_s
    settled_s = began_s + SETTLES * (ended_s - began_s)
    part_s = _ENDS * (ended_s - settled_s)
    return (
        [each for each in readings if settled_s <= each.at_s <= settled_s + part_s],
        [each for each in readings if each.at_s >= ended_s - part_s],
    )


def _medians(
    first: Sequence[Reading], last: Sequence[Reading], figure: Callable[[Reading], int]
) -> tuple[float, float] | None:
    if not first or not last:
        return None
    return median(map(figure, first)), median(map(figure, last))
