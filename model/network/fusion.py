"""Owns how an item and what was done with it become one input row.

Never knows where a row stands: a row is a function of the pair alone, so serving may read it from a
table of all pairs.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import HSTUConfig


def fusion(config: HSTUConfig) -> nn.Module:
    """Item and action rows (..., D) -> input rows (..., D)."""
    if config.fusion == "gate":
        return _Gate(config.d_model)
    return _MLP(config.d_model) if config.fusion == "mlp" else _Sum()


class _Sum(nn.Module):
    def forward(self, items: Tensor, actions: Tensor) -> Tensor:
        return items + actions


class _Gate(nn.Module):
    """g * item + (1 - g) * action, with g = sigmoid(W [item, action] + b)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = _linear(2 * width, width)

    def forward(self, items: Tensor, actions: Tensor) -> Tensor:
        gate = torch.sigmoid(self.gate(torch.cat((items, actions), -1)))
        return torch.lerp(actions, items, gate)


class _MLP(nn.Module):
    """W2 SiLU(W1 [item, action] + b1) + b2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = _linear(2 * width, width)
        self.out = _linear(width, width)

    def forward(self, items: Tensor, actions: Tensor) -> Tensor:
        rows: Tensor = self.out(F.silu(self.hidden(torch.cat((items, actions), -1))))
        return rows


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """Without a first bias, which would drown embeddings that begin as small as these."""
    linear = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
