"""Training's attention and its hand-written backward pass."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model.network.padded_attention import padded_attention
from tests.model.builders import assert_close

MODULE = "model.network.padded_attention"
BATCH, HEADS, LENGTH, QK, V, DISTANCES, BUCKETS = 3, 2, 5, 3, 4, 3, 6

Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]

shapes = pytest.mark.parametrize(("bias_heads", "groups"), [(1, 1), (1, 2), (HEADS, 1), (HEADS, 2)])


def inputs(bias_heads: int, groups: int, dtype: torch.dtype = torch.float64) -> Inputs:
    """Distances pass the position table; buckets repeat, and one is never used."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()

    bucket = torch.randint(BUCKETS - 1, (BATCH, LENGTH, LENGTH), generator=generator)
    return (
        normal(BATCH, HEADS, groups, LENGTH, QK),
        normal(BATCH, HEADS, LENGTH, QK),
        normal(BATCH, HEADS, LENGTH, V),
        normal(bias_heads, DISTANCES),
        normal(bias_heads, BUCKETS),
        bucket.to(torch.int32),
    )


def by_formula(
    q: Tensor, k: Tensor, v: Tensor, position: Tensor, time: Tensor, bucket: Tensor
) -> Tensor:
    """One query row at a time, over the keys it sees and no others."""
    out = q.new_zeros(*q.shape[:4], v.shape[-1])
    for b in range(q.shape[0]):
        for head in range(q.shape[1]):
            g = min(head, len(position) - 1)
            for group in range(q.shape[2]):
                for row in range(q.shape[3]):
                    seen = torch.arange(row + 1)
                    distance = (row - seen + group).clamp(max=position.shape[1] - 1)
                    bias = position[g, distance] + time[g, bucket[b, row, : row + 1]]
                    scores = k[b, head, : row + 1] @ q[b, head, group, row] + bias
                    out[b, head, group, row] = F.silu(scores) @ v[b, head, : row + 1]
    return out


def gradients(out: Tensor, given: Inputs) -> tuple[Tensor, ...]:
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return torch.autograd.grad((out * weights).sum(), given[:5])


@shapes
def test_gradients_are_those_of_the_function(bias_heads: int, groups: int) -> None:
    assert torch.autograd.gradcheck(padded_attention, inputs(bias_heads, groups))


@shapes
def test_values_and_gradients_are_those_of_the_formula(bias_heads: int, groups: int) -> None:
    given = inputs(bias_heads, groups)
    out, expected = padded_attention(*given), by_formula(*given)
    assert_close([out], [expected], tolerance=1e-12)
    assert_close(gradients(out, given), gradients(expected, given), tolerance=1e-12)


@shapes
@pytest.mark.parametrize(("users", "rows"), [(1, 40), (2, 40), (3, 1), (2, 2), (1, 3), (3, 5)])
def test_a_batch_of_several_tiles_is_the_same(
    monkeypatch: pytest.MonkeyPatch, bias_heads: int, groups: int, users: int, rows: int
) -> None:
    """Of users and of rows; the last tile of either is often a smaller one."""
    given = inputs(bias_heads, groups)
    whole = padded_attention(*given)
    expected = gradients(whole, given)
    monkeypatch.setattr(f"{MODULE}._TILE_ROWS", rows)
    monkeypatch.setattr(f"{MODULE}._TILE_FLOATS", users * HEADS * groups * min(rows, 5) * LENGTH)
    tiled = padded_attention(*given)
    assert_close([tiled], [whole], tolerance=1e-12)
    assert_close(gradients(tiled, given), expected, tolerance=1e-12)


def test_a_user_larger_than_a_tile_is_a_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    given = inputs(HEADS, 2)
    whole = padded_attention(*given)
    monkeypatch.setattr(f"{MODULE}._TILE_FLOATS", 1)
    assert_close([padded_attention(*given)], [whole], tolerance=1e-12)


def test_later_keys_have_no_influence_and_no_gradient() -> None:
    """However large their bias: SiLU of it would leak through a mask that acts before."""
    q, k, v, position, time, bucket = inputs(1, 2)
    with torch.no_grad():
        position += 9
        time += 9
    early = padded_attention(q, k, v, position, time, bucket)[:, :, :, :3].sum()
    dk, dv = torch.autograd.grad(early, (k, v))
    assert not dk[:, :, 3:].any()
    assert not dv[:, :, 3:].any()


def test_training_precision_is_kept() -> None:
    given = inputs(1, 2, torch.float32)
    out = padded_attention(*given)
    assert out.dtype == torch.float32
    assert {grad.dtype for grad in gradients(out, given)} == {torch.float32}
