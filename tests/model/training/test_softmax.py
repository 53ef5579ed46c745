"""The chunked softmax loss is cross-entropy, its gradients included."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model.training.softmax import Seen, full_softmax_loss, sampled_softmax_loss
from tests.model.builders import assert_close

CHUNK = "model.training.softmax._CHUNK_FLOATS"
NUM_ITEMS, NUM_ROWS = 9, 7


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    queries, items = (
        (3 * torch.randn(count, 4, generator=generator, dtype=dtype)).requires_grad_()
        for count in (NUM_ROWS, NUM_ITEMS)
    )
    targets = torch.tensor([3, 3, 0, NUM_ITEMS - 1, 5, 3, 0])
    return queries, items, targets


def outcome(loss: Tensor, given: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
    return loss.detach(), *torch.autograd.grad(2.5 * loss, given[:2])


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 100])
def test_the_loss_is_the_summed_cross_entropy_in_chunks_of_any_size(
    monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(CHUNK, rows * NUM_ITEMS)
    queries, items, targets = given = inputs()
    expected = outcome(F.cross_entropy(queries @ items.T, targets, reduction="sum"), given)
    assert_close(outcome(full_softmax_loss(*given), given), expected, tolerance=1e-12)


def test_a_catalogue_larger_than_a_chunk_goes_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    given = inputs()
    expected = outcome(full_softmax_loss(*given), given)
    monkeypatch.setattr(CHUNK, 1)
    assert_close(outcome(full_softmax_loss(*given), given), expected, tolerance=1e-12)


def test_gradients_are_those_of_the_function() -> None:
    queries, items, targets = inputs()
    assert torch.autograd.gradcheck(lambda q, i: full_softmax_loss(q, i, targets), (queries, items))


def test_large_logits_do_not_overflow() -> None:
    queries, items, targets = given = inputs(torch.float32)
    with torch.no_grad():
        queries.mul_(1_000)
    loss, *gradients = outcome(full_softmax_loss(*given), given)
    assert torch.isfinite(loss)
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    expected = F.cross_entropy(queries @ items.T, targets, reduction="sum")
    torch.testing.assert_close(loss, expected.detach())


def test_no_rows_cost_nothing() -> None:
    queries, items, targets = inputs()
    given = queries[:0], items, targets[:0]
    assert full_softmax_loss(*given).item() == 0.0


def test_inputs_are_left_as_they_are() -> None:
    given = inputs()
    before = [tensor.detach().clone() for tensor in given]
    full_softmax_loss(*given).backward()
    assert_close([tensor.detach() for tensor in given], before, tolerance=0)


@pytest.mark.parametrize("floats", [1, 64, 1 << 20])
def test_sampled_negatives_are_other_items_and_count_once_each(
    monkeypatch: pytest.MonkeyPatch, floats: int
) -> None:
    monkeypatch.setattr(CHUNK, floats)
    queries, items, targets = inputs()
    drawn = torch.tensor([[3, 1, 1, 8]] * NUM_ROWS)  # 3 is the target of three rows
    monkeypatch.setattr(torch, "randint", lambda *_args, **_kwargs: drawn)
    expected = torch.zeros((), dtype=torch.float64)
    for query, target in zip(queries, targets.tolist(), strict=True):
        others = [item for item in (3, 1, 1, 8) if item != target]
        logits = items[[target, *others]] @ query
        expected = expected + logits.logsumexp(0) - logits[0]
    found = sampled_softmax_loss(queries, items, targets, 4)
    given = (queries, items, targets)
    assert_close(outcome(found, given), outcome(expected, given), tolerance=1e-12)


SEEN = torch.tensor([[0, 1], [3, 8], [5, 5], [8, 8], [1, 0], [3, 3], [7, 2]])
HOW = pytest.mark.parametrize("is_spared", [False, True])
Given = tuple[Tensor, Tensor, Tensor]


def beside() -> Tensor:
    return torch.tensor(-1.5, dtype=torch.float64, requires_grad=True)


def all_outcomes(loss: Tensor, given: Given, logit: Tensor) -> tuple[Tensor, ...]:
    return loss.detach(), *torch.autograd.grad(2.5 * loss, (*given[:2], logit))


def expected_of(given: Given, logit: Tensor, is_spared: bool) -> Tensor:
    queries, items, targets = given
    is_seen = F.one_hot(SEEN, NUM_ITEMS).sum(1) > 0
    logits = queries @ items.T + logit * is_seen
    if is_spared:
        is_other = F.one_hot(targets, NUM_ITEMS) == 0
        logits = logits.masked_fill(is_seen & is_other, -torch.inf)
    return F.cross_entropy(logits, targets, reduction="sum")


@HOW
@pytest.mark.parametrize("rows", [1, 2, 100])
def test_what_is_seen_has_a_logit_of_its_own_and_may_be_no_competition(
    monkeypatch: pytest.MonkeyPatch, rows: int, is_spared: bool
) -> None:
    monkeypatch.setattr(CHUNK, rows * NUM_ITEMS)
    given, logit = inputs(), beside()
    expected = all_outcomes(expected_of(given, logit, is_spared), given, logit)
    found = full_softmax_loss(*given, Seen(SEEN, logit, is_spared))
    assert_close(all_outcomes(found, given, logit), expected, tolerance=1e-12)


@HOW
def test_so_it_is_where_it_is_drawn(monkeypatch: pytest.MonkeyPatch, is_spared: bool) -> None:
    every = torch.arange(NUM_ITEMS).expand(NUM_ROWS, -1)
    monkeypatch.setattr(torch, "randint", lambda *_args, **_kwargs: every)
    given, logit = inputs(), beside()
    expected = all_outcomes(expected_of(given, logit, is_spared), given, logit)
    found = sampled_softmax_loss(*given, NUM_ITEMS, Seen(SEEN, logit, is_spared))
    assert_close(all_outcomes(found, given, logit), expected, tolerance=1e-12)


def test_to_spare_nothing_is_to_spare_the_targets() -> None:
    *_, targets = given = inputs()
    spared = Seen(targets.unsqueeze(1).expand(-1, 2), None, is_spared=True)
    for loss in (full_softmax_loss, sampled_of_a_seed):
        expected = outcome(loss(*given, spared), given)
        assert_close(outcome(loss(*given), given), expected, tolerance=0)


def sampled_of_a_seed(
    queries: Tensor, items: Tensor, targets: Tensor, seen: Seen | None = None
) -> Tensor:
    torch.manual_seed(0)
    return sampled_softmax_loss(queries, items, targets, 4, seen)
