"""A recorded run as columns, and the figures that several charts read from them.

Owns what counts as answered, whole and in time. Never draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from loadtests.record import Mark, Record, RecordError, Sample

Floats: TypeAlias = npt.NDArray[np.float64]
Flags: TypeAlias = npt.NDArray[np.bool_]

_WINDOWS_S = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300)
_MAX_WINDOWS = 90
"""More points than this in a line of the page's width are not told apart."""


def is_answer(sample: Sample) -> bool:
    """Whether the service did what it was asked; part of a batch may have been refused."""
    return 200 <= sample.status < 300 and not sample.code


@dataclass(frozen=True)
class Measured:
    """One run; arrays are in order of the time a request was to be sent."""

    label: str
    record: Record

    @property
    def samples(self) -> list[Sample]:
        return self.record.samples

    @property
    def budget_ms(self) -> float | None:
        return self.record.run.budget_ms

    @cached_property
    def at_s(self) -> Floats:
        return np.array([sample.at_s for sample in self.samples])

    @cached_property
    def latency_ms(self) -> Floats:
        """From when a request was to be sent."""
        return np.array([sample.latency_ms for sample in self.samples])

    @cached_property
    def since_sent_ms(self) -> Floats:
        """From when it was sent: what a client that waits for answers would see."""
        return np.array([sample.latency_ms - sample.waited_ms for sample in self.samples])

    @cached_property
    def answered(self) -> Flags:
        return np.array([is_answer(sample) for sample in self.samples], dtype=bool)

    @cached_property
    def in_time(self) -> Flags:
        """Answered within the budget; without one, answered."""
        budget_ms = np.inf if self.budget_ms is None else self.budget_ms
        return np.logical_and(self.answered, self.latency_ms <= budget_ms)

    @cached_property
    def whole(self) -> Flags:
        """In time with nothing left out."""
        return np.logical_and(self.in_time, [sample.complete for sample in self.samples])

    @cached_property
    def length_s(self) -> float:
        """Until the last thing that was recorded."""
        record = self.record
        ends = [sample.at_s + sample.latency_ms / 1000 for sample in record.samples]
        ends += [mark.until_s for mark in record.marks]
        ends += [reading.at_s for reading in record.readings]
        return max(ends, default=0.0)

    @cached_property
    def window_s(self) -> float:
        """Of figures over time."""
        fine = (width for width in _WINDOWS_S if self.length_s <= width * _MAX_WINDOWS)
        return next(fine, _WINDOWS_S[-1])

    @cached_property
    def window(self) -> npt.NDArray[np.int64]:
        """Of each sample, by its time."""
        return (self.at_s / self.window_s).astype(np.int64)

    @cached_property
    def window_starts_s(self) -> Floats:
        sent_s = self.at_s.max() if len(self.at_s) else 0.0
        return np.arange(int(sent_s / self.window_s) + 1, dtype=np.float64) * self.window_s

    def per_window(self, chosen: Flags, weights: Sequence[float] | None = None) -> Floats:
        """How many of the chosen samples, or the sum of their weights, in each window."""
        values = None if weights is None else np.asarray(weights, dtype=np.float64)[chosen]
        return np.bincount(self.window[chosen], values, minlength=len(self.window_starts_s)).astype(
            np.float64
        )

    def during(self, mark: Mark) -> Flags:
        return (self.at_s >= mark.at_s) & (self.at_s < mark.until_s)

    @property
    def faults(self) -> list[Mark]:
        return [mark for mark in self.record.marks if mark.is_fault]

    @property
    def phases(self) -> list[Mark]:
        return [mark for mark in self.record.marks if not mark.is_fault]


def load(folders: Sequence[Path]) -> list[Measured]:
    """
    Raises:
        RecordError: a folder holds no run that can be read, or one without a request.
    """
    records = [Record.load(folder) for folder in folders]
    titles = [record.run.title for record in records]
    runs = []
    for folder, record in zip(folders, records, strict=True):
        if not record.samples:
            raise RecordError(f"{folder} holds no request: nothing can be reported")
        title = record.run.title
        label = title if titles.count(title) == 1 else f"{title} ({folder.name})"
        runs.append(Measured(label, record))
    return runs


def percentile(values: Floats, percent: float) -> float:
    """The smallest value that so many per cent do not exceed; NaN of none."""
    if not len(values):
        return float("nan")
    return float(np.percentile(values, percent, method="inverted_cdf"))
