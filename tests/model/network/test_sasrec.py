"""The `sasrec` preset is the published block: checked against torch's own attention."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.network.batch import to_batch
from model.network.hstu import HSTU
from model.presets import sasrec
from tests.model.builders import NUM_ITEMS, assert_close, make_network, random_history

WIDTH, HEADS, LENGTH = 16, 2, 9


def network() -> HSTU:
    sizes = {"d_model": WIDTH, "num_heads": HEADS, "qk_dim": 8, "v_dim": 8, "num_layers": 2}
    return make_network(sasrec(NUM_ITEMS, max_length=12, **sizes))


def block(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """`_run_one_layer` of the research code's `sasrec.py`."""
    attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    v, q, k = w["uvqk"].split(WIDTH, dim=1)
    v_bias, q_bias, k_bias = w["uvqk_bias"].split(WIDTH)
    with torch.no_grad():
        attention.in_proj_weight.copy_(torch.cat((q.T, k.T, v.T)))
        attention.in_proj_bias.copy_(torch.cat((q_bias, k_bias, v_bias)))
        attention.out_proj.weight.copy_(w["out.weight"])
        attention.out_proj.bias.copy_(w["out.bias"])
    query = F.layer_norm(x, (WIDTH,), eps=1e-8)
    future = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
    attended, _ = attention(query, x, x, attn_mask=future)
    z = F.layer_norm(query + attended, (WIDTH,), eps=1e-8)
    hidden = F.relu(F.linear(z, w["ffn.expand.weight"], w["ffn.expand.bias"]))
    return F.linear(hidden, w["ffn.contract.weight"], w["ffn.contract.bias"]) + z


def test_it_is_the_published_block() -> None:
    made = network()
    history = random_history(LENGTH)
    x = made.items(history.items[:-1]) * WIDTH**0.5
    assert made.positions is not None
    x = x + made.positions.weight[: LENGTH - 1]
    with torch.no_grad():
        for layer in made.blocks:
            x = block(dict(layer.named_parameters()), x)
        found = made(to_batch([history])).events[0]
    assert_close([found], [x], 2e-5)


def test_every_weight_of_it_is_used() -> None:
    made = network().train()
    made(to_batch([random_history(LENGTH)])).events.pow(2).sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in made.blocks[0].parameters())
