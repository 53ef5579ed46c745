"""Means, spreads and differences are what they are called, and a law is found and seen to bend."""

import math
import statistics

import pytest

from model.ablation.outcome import FIGURES, MEASURE, Outcome
from model.ablation.power_law import fit
from model.ablation.summary import summarise
from model.spread import Spread


def outcome(variant: str, seed: int, quality: float) -> Outcome:
    figures = dict.fromkeys(FIGURES, 0.5) | {MEASURE: quality}
    return Outcome(variant, seed, figures, 3, 4, 100, 1_000 * (seed + 1))


def test_a_variant_is_compared_with_the_base_over_seeds() -> None:
    qualities = {"good": [0.3, 0.5], "base": [0.2, 0.3, 0.4], "bad": [0.1]}
    found = [
        outcome(name, seed, value)
        for name, values in qualities.items()
        for seed, value in reversed(list(enumerate(values)))
    ]
    base, good, bad = summarise(found)
    assert [row.variant for row in (base, good, bad)] == ["base", "good", "bad"]
    assert (base.seeds, base.difference, base.standard_error) == ([0, 1, 2], None, None)
    assert base.num_operations == 2_000
    spread = base.figures[MEASURE]
    assert spread.mean == pytest.approx(0.3)
    assert spread.sd == pytest.approx(0.1)
    assert good.difference == pytest.approx(0.1)
    expected = math.sqrt(statistics.variance([0.3, 0.5]) / 2 + 0.1**2 / 3)
    assert good.standard_error == pytest.approx(expected)
    assert bad.figures[MEASURE] == Spread(0.1, None, 1)
    assert bad.difference == pytest.approx(-0.2)
    assert bad.standard_error is None


def test_without_a_base_there_are_no_differences() -> None:
    (row,) = summarise([outcome("good", 0, 0.3)])
    assert row.difference is None
    assert summarise([]) == []


SIZES = [1e9, 3e9, 1e10, 4e10, 1e11, 3e11]


def test_a_power_law_is_found() -> None:
    law = fit(SIZES, [0.02 * size**0.08 for size in SIZES])
    assert law
    assert law.num_fitted == 4
    assert law.factor == pytest.approx(0.02)
    assert law.exponent == pytest.approx(0.08)
    assert law.residuals == pytest.approx([0, 0], abs=1e-9)
    assert law.at(1e10) == pytest.approx(0.02 * 1e10**0.08)
    assert law.exponents == pytest.approx((0.08, 0.08))
    assert not law.bends


def test_a_curve_that_bends_everywhere_is_no_law_with_much_scatter() -> None:
    law = fit(SIZES, [0.02 * size ** (0.5 - 0.008 * math.log(size)) for size in SIZES])
    assert law
    assert law.bends
    first, last = law.exponents
    assert first == pytest.approx(0.5 - 0.016 * math.log(SIZES[0]))
    assert last == pytest.approx(0.5 - 0.016 * math.log(SIZES[-1]))


@pytest.mark.parametrize(("shares", "bends"), [((0.95, 0.9), True), ((0.95, 1.0), False)])
def test_what_the_largest_sizes_fall_short_by_is_told(
    shares: tuple[float, float], bends: bool
) -> None:
    qualities = [0.02 * size**0.08 for size in SIZES]
    qualities[0] *= 1.001  # some scatter
    qualities[4:] = [quality * share for quality, share in zip(qualities[4:], shares, strict=True)]
    law = fit(SIZES[::-1], qualities[::-1])  # in any order
    assert law
    assert law.residuals == pytest.approx([share - 1 for share in shares], abs=0.01)
    assert law.bends == bends


def test_too_few_sizes_are_no_law() -> None:
    assert fit(SIZES[:4], [0.1, 0.2, 0.3, 0.4]) is None
    assert fit([5.0] * 6, [0.1] * 6) is None
