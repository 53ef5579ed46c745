"""Owns the power law of a scaling curve, and whether the curve bends away from it.

Never fits what it foretells: the largest sizes are left out of the law and held against it. The
bend is judged by all sizes, since a law that is fitted to a curve has the curve for its scatter.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NUM_FORETOLD = 2
_LEAST_FITTED = 3
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """quality = factor * size ** exponent, by least squares in the logarithms."""

    factor: float
    exponent: float
    num_fitted: int
    scatter: float  # root mean square of the fitted sizes' residuals, as a share
    residuals: list[float]  # found / foretold - 1 at the largest sizes, which were not fitted
    exponents: tuple[float, float]  # at the smallest and the largest size, of a parabola in logs
    bends: bool  # down: the parabola's curvature is negative by more than twice its standard error

    def at(self, size: float) -> float:
        return self.factor * math.pow(size, self.exponent)


def fit(sizes: Sequence[float], qualities: Sequence[float]) -> PowerLaw | None:
    """None for fewer sizes than tell a law from a line through two points."""
    points = sorted(zip(sizes, qualities, strict=True))
    num_fitted = len(points) - NUM_FORETOLD
    if num_fitted < 0 or len({size for size, _ in points[:num_fitted]}) < _LEAST_FITTED:
        return None
    logs = [(math.log(size), math.log(quality)) for size, quality in points]
    line = statistics.linear_regression(*zip(*logs[:num_fitted], strict=True))
    off = [y - (line.intercept + line.slope * x) for x, y in logs]
    parabola, covariance = np.polyfit([x for x, _ in logs], [y for _, y in logs], 2, cov=True)
    curvature, slope = float(parabola[0]), float(parabola[1])
    doubt = max(2 * math.sqrt(float(covariance[0, 0])), _ROUNDING)
    return PowerLaw(
        factor=math.exp(line.intercept),
        exponent=line.slope,
        num_fitted=num_fitted,
        scatter=math.sqrt(statistics.fmean(each**2 for each in off[:num_fitted])),
        residuals=[math.expm1(each) for each in off[num_fitted:]],
        exponents=(slope + 2 * curvature * logs[0][0], slope + 2 * curvature * logs[-1][0]),
        bends=curvature < -doubt,
    )
