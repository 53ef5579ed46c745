"""The chunked softmax loss is cross-entropy, its gradients included."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model.training.softmax import full_softmax_loss, sampled_softmax_loss
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


def are_seen() -> Tensor:
    return F.one_hot(SEEN, NUM_ITEMS).sum(1) > 0


def masked(given: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    queries, items, targets = given
    is_other = F.one_hot(targets, NUM_ITEMS) == 0
    logits = (queries @ items.T).masked_fill(are_seen() & is_other, -torch.inf)
    return F.cross_entropy(logits, targets, reduction="sum")


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_spared_items_are_no_competition_unless_they_are_the_target(
    monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(CHUNK, rows * NUM_ITEMS)
    given = inputs()
    expected = outcome(masked(given), given)
    found = full_softmax_loss(*given, SEEN)
    assert_close(outcome(found, given), expected, tolerance=1e-12)


def test_spared_items_are_no_drawn_negatives_either(monkeypatch: pytest.MonkeyPatch) -> None:
    every = torch.arange(NUM_ITEMS).expand(NUM_ROWS, -1)
    monkeypatch.setattr(torch, "randint", lambda *_args, **_kwargs: every)
    given = inputs()
    expected = outcome(masked(given), given)
    found = sampled_softmax_loss(*given, NUM_ITEMS, SEEN)
    assert_close(outcome(found, given), expected, tolerance=1e-12)


def test_to_spare_nothing_is_to_spare_the_targets() -> None:
    *_, targets = given = inputs()
    spared = targets.unsqueeze(1).expand(-1, 2)
    found = outcome(full_softmax_loss(*given, spared), given)
    assert_close(found, outcome(full_softmax_loss(*given), given), tolerance=0)
    torch.manual_seed(0)
    some = outcome(sampled_softmax_loss(*given, 4, spared), given)
    torch.manual_seed(0)
    assert_close(some, outcome(sampled_softmax_loss(*given, 4), given), tolerance=0)


@pytest.mark.parametrize("rows", [1, 2, 100])
@pytest.mark.parametrize("beside", [-30.0, -1.5, 0.0, 2.0])
def test_repeats_learn_from_the_rest_and_the_rest_not_from_them(
    monkeypatch: pytest.MonkeyPatch, rows: int, beside: float
) -> None:
    monkeypatch.setattr(CHUNK, rows * NUM_ITEMS)
    queries, items, targets = given = inputs()
    repeat = torch.tensor(beside, dtype=torch.float64, requires_grad=True)
    logits = (queries @ items.T).detach() + repeat * are_seen()
    expected = F.cross_entropy(logits, targets, reduction="sum")
    slope = torch.autograd.grad(2.5 * expected, repeat)
    rest = outcome(full_softmax_loss(*given), given)[1:]
    found = full_softmax_loss(*given, SEEN, repeat)
    gradients = torch.autograd.grad(2.5 * found, (repeat, *given[:2]))
    assert_close([found.detach()], [expected.detach()], tolerance=1e-7)
    assert_close(gradients, (*slope, *rest), tolerance=1e-7)


def test_a_row_of_which_all_is_seen_has_a_loss() -> None:
    queries, items, targets = inputs(torch.float32)
    seen = torch.arange(NUM_ITEMS).expand(NUM_ROWS, -1)
    repeat = torch.tensor(-200.0, requires_grad=True)
    loss = full_softmax_loss(queries, items, targets, seen, repeat)
    assert torch.isfinite(loss)
    assert torch.isfinite(torch.autograd.grad(loss, repeat)[0])
