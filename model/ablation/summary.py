"""Owns the sums of an ablation: mean and spread over seeds, and the difference to the base.

Never chooses: a difference within its standard error is for a person to read as none.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from model.ablation.grid import BASE
from model.ablation.outcome import FIGURES, MEASURE, Outcome
from model.spread import Spread


@dataclass(frozen=True, slots=True)
class Row:
    """One variant."""

    variant: str
    seeds: list[int]
    figures: dict[str, Spread]
    difference: float | None  # of the mean of MEASURE to the base's; None for the base itself
    standard_error: float | None  # of the difference, over seeds; None with one seed of either
    best_epoch: float  # mean
    num_parameters: int
    num_operations: float  # mean, as some stop early


def summarise(outcomes: Sequence[Outcome]) -> list[Row]:
    """The base first, the others from the best on."""
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.variant, []).append(outcome)
    base = Spread.of([each.figures[MEASURE] for each in found[BASE]]) if BASE in found else None
    rows = [_row(name, of_seeds, base) for name, of_seeds in found.items()]
    return sorted(rows, key=lambda row: (row.variant != BASE, -row.figures[MEASURE].mean))


def _row(variant: str, outcomes: list[Outcome], base: Spread | None) -> Row:
    outcomes = sorted(outcomes, key=lambda outcome: outcome.seed)
    figures = {name: Spread.of([each.figures[name] for each in outcomes]) for name in FIGURES}
    own = figures[MEASURE]
    difference, error = None, None
    if base is not None and variant != BASE:
        difference = own.mean - base.mean
        if own.sd is not None and base.sd is not None:
            error = (own.sd**2 / own.num_seeds + base.sd**2 / base.num_seeds) ** 0.5
    return Row(
        variant=variant,
        seeds=[each.seed for each in outcomes],
        figures=figures,
        difference=difference,
        standard_error=error,
        best_epoch=statistics.fmean(each.best_epoch for each in outcomes),
        num_parameters=outcomes[0].num_parameters,
        num_operations=statistics.fmean(each.num_operations for each in outcomes),
    )
