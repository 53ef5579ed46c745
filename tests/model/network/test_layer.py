"""One layer apart from its attention: the order of the projections, the gate, the residual."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.network.layer import HSTULayer
from tests.model.builders import assert_close, make_network, tiny_config

HEADS, QK, V = 2, 8, 12


def layer_with(residual: str, dropout: float = 0.2) -> HSTULayer:
    return make_network(tiny_config(residual=residual, dropout=dropout)).blocks[0]


def rows(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("residual", ["input", "normed"])
@pytest.mark.parametrize("shape", [(5,), (2, 3), ()])
def test_columns_are_u_v_q_k_head_after_head(residual: str, shape: tuple[int, ...]) -> None:
    layer, x = layer_with(residual), rows(*shape, 16)
    found = layer.project(x)
    norm = layer.in_norm
    assert isinstance(norm, nn.LayerNorm)
    normed = F.layer_norm(x, (16,), norm.weight, norm.bias, eps=0.1)
    columns = F.silu(normed @ layer.uvqk)
    u, v, q, k = columns.split([HEADS * V, HEADS * V, HEADS * QK, HEADS * QK], dim=-1)
    assert_close([found.u], [u])
    for part, flat, width in ((found.v, v, V), (found.q, q, QK), (found.k, k, QK)):
        assert part.shape == (*shape, HEADS, width)
        for head in range(HEADS):
            own = flat[..., head * width : (head + 1) * width]
            assert_close([part[..., head, :]], [own])
    assert_close([found.base], [normed if residual == "normed" else x])


def test_what_is_attended_is_normed_gated_and_added() -> None:
    layer = layer_with("input")
    base, u, attended = rows(3, 16), rows(3, HEADS * V), 5 * rows(3, HEADS * V).flip(0) + 2
    norm, out = layer.attention_norm, layer.out
    assert isinstance(norm, nn.LayerNorm)
    assert isinstance(out, nn.Linear)
    gated = u * F.layer_norm(attended, (HEADS * V,), norm.weight, norm.bias, eps=0.1)
    expected = base + gated @ out.weight.T + out.bias
    assert_close([layer.output(base, u, attended)], [expected])


def test_the_gate_drops_out_in_training_and_the_residual_never_does() -> None:
    layer = layer_with("input", dropout=0.9).train()
    base, u, attended = rows(400, 16), torch.ones(400, HEADS * V), rows(400, HEADS * V)
    out = layer.out
    assert isinstance(out, nn.Linear)
    with torch.no_grad():
        out.weight.copy_(torch.eye(16, HEADS * V))
        out.bias.zero_()
    with torch.random.fork_rng():
        added = layer.output(base, u, attended) - base
    dropped = (added.abs() < 1e-6).float().mean()
    assert 0.85 < float(dropped) < 0.95
