"""How sure an area, and a mean over users' events, is."""

import math

import pytest
import torch

from model.evaluation.auc import auc_terms
from model.evaluation.estimate import Estimate


def area(scores: torch.Tensor, happened: torch.Tensor) -> float:
    terms = auc_terms(scores, happened)
    assert terms is not None
    return float(terms.mean())


def test_the_terms_spread_as_the_area_does() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(1500, generator=generator).round(decimals=1)  # some are tied
    happened = torch.rand(1500, generator=generator) < 0.4 * scores.sigmoid()
    terms = auc_terms(scores, happened)
    assert terms is not None
    drawn = [torch.randint(1500, (1500,), generator=generator) for _ in range(300)]
    areas = torch.tensor([area(scores[rows], happened[rows]) for rows in drawn])
    assert float(terms.std()) / math.sqrt(1500) == pytest.approx(float(areas.std()), rel=0.15)


def test_events_of_one_user_count_as_one() -> None:
    terms = torch.tensor([0.0, 1.0, 0.0, 1.0])
    alone = Estimate.of(terms, torch.arange(4))
    assert alone.value == 0.5
    assert alone.error == pytest.approx(0.25)
    alike = Estimate.of(terms, torch.tensor([7, 3, 7, 3]))
    assert alike.error == pytest.approx(math.sqrt(2) / 4)
    unlike = Estimate.of(terms, torch.tensor([7, 7, 3, 3]))
    assert unlike.error == 0.0
