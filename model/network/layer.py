"""Owns one HSTU layer apart from which rows see which: projections, gate, output.

Never attends itself: training, serving and the oracle bring their own attention, and all of them
go through `project` and `output`. Source: arXiv 2402.17152, equations 1 to 3.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import HSTUConfig
from model.network.bias import RelativeBias


@dataclass(frozen=True, slots=True)
class Projection:
    """One layer's view of some rows (...)."""

    base: Tensor  # (..., D) what the residual adds to
    u: Tensor  # (..., H * V) the gate
    v: Tensor  # (..., H, V)
    q: Tensor  # (..., H, K)
    k: Tensor  # (..., H, K)


class HSTULayer(nn.Module):
    def __init__(self, config: HSTUConfig) -> None:
        super().__init__()
        heads, qk, v = config.num_heads, config.qk_dim, config.v_dim
        self._heads, self._residual = heads, config.residual
        self._split = [heads * v, heads * v, heads * qk, heads * qk]
        self.in_norm = nn.LayerNorm(config.d_model, eps=config.norm_eps)
        self.uvqk = nn.Parameter(torch.empty(config.d_model, sum(self._split)))
        self.bias = RelativeBias(config)
        self.attention_norm = nn.LayerNorm(heads * v, eps=config.norm_eps)
        self.out = nn.Linear(heads * v, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.uvqk, std=0.02)
        nn.init.xavier_uniform_(self.out.weight)

    def project(self, x: Tensor) -> Projection:
        """Rows (..., D) -> u, v, q, k = SiLU(LayerNorm(x) W), in that order of columns."""
        normed = self.in_norm(x)
        u, v, q, k = F.silu(normed @ self.uvqk).split(self._split, dim=-1)
        return Projection(
            base=normed if self._residual == "normed" else x,
            u=u,
            v=v.unflatten(-1, (self._heads, -1)),
            q=q.unflatten(-1, (self._heads, -1)),
            k=k.unflatten(-1, (self._heads, -1)),
        )

    def output(self, base: Tensor, u: Tensor, attended: Tensor) -> Tensor:
        """base (..., D), u and attended (..., H * V) -> the next layer's rows (..., D)."""
        gated: Tensor = self.dropout(u * self.attention_norm(attended))
        rows: Tensor = base + self.out(gated)
        return rows
