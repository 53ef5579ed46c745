"""Owns a figure's mean over runs and how far they are apart. Never says what a figure means."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """Over seeds; with one of them there is no spread."""

    mean: float
    sd: float | None  # of the sample
    num_seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        sd = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), sd, len(values))

    def __str__(self) -> str:
        """Of a share, as tables of results have it: .3642 ± .0021."""
        return short(self.mean) + ("" if self.sd is None else f" ± {short(self.sd)}")


def short(share: float) -> str:
    """A share from 0 to 1 without the zero before its point."""
    return f"{share:.4f}".removeprefix("0")
