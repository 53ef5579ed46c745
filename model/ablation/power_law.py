"""Owns the power law of a scaling curve, and whether it still holds at the largest sizes.

Never fits what it foretells: the largest sizes are left out of the fit and held against it.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

NUM_FORETOLD = 2
_LEAST_FITTED = 3


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """quality = factor * size ** exponent, by least squares in the logarithms."""

    factor: float
    exponent: float
    num_fitted: int
    scatter: float  # root mean square of the fitted sizes' residuals, as a share
    residuals: list[float]  # found / foretold - 1 at the largest sizes, which were not fitted

    def at(self, size: float) -> float:
        return self.factor * math.pow(size, self.exponent)

    @property
    def bends(self) -> bool:
        """Whether the largest sizes all fall short of the law by more than twice the scatter."""
        return bool(self.residuals) and max(self.residuals) < -2 * self.scatter


def fit(sizes: Sequence[float], qualities: Sequence[float]) -> PowerLaw | None:
    """None for fewer sizes than tell a law from a line through two points."""
    points = sorted(zip(sizes, qualities, strict=True))
    num_fitted = len(points) - NUM_FORETOLD
    if num_fitted < _LEAST_FITTED or len({size for size, _ in points[:num_fitted]}) < 2:
        return None
    logs = [(math.log(size), math.log(quality)) for size, quality in points]
    line = statistics.linear_regression(*zip(*logs[:num_fitted], strict=True))
    off = [y - (line.intercept + line.slope * x) for x, y in logs]
    return PowerLaw(
        factor=math.exp(line.intercept),
        exponent=line.slope,
        num_fitted=num_fitted,
        scatter=math.sqrt(statistics.fmean(each**2 for each in off[:num_fitted])),
        residuals=[math.expm1(each) for each in off[num_fitted:]],
    )
