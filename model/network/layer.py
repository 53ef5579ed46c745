"""Owns one HSTU layer apart from which rows see which: projections, gate, output, FFN.

Never attends itself: training, serving and the oracle bring their own attention, and all of them
go through `project` and `output`. Source: arXiv 2402.17152, equations 1 to 3; options after the
implementations that `model.presets` names.
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
    q: Tensor  # (..., H, K), scaled
    k: Tensor  # (..., H, K)


class HSTULayer(nn.Module):
    def __init__(self, config: HSTUConfig) -> None:
        super().__init__()
        self._config = config
        width, heads = config.d_model, config.num_heads
        gate, keys = heads * config.v_dim, heads * config.qk_dim
        self._split = [gate, gate, keys, keys]
        self.in_norm = norm(config, config.in_norm, width)
        self.uvqk = nn.Parameter(torch.empty(width, sum(self._split)).normal_(std=0.02))
        self.uvqk_bias = (
            nn.Parameter(torch.zeros(sum(self._split))) if config.projection_bias else None
        )
        self.bias = RelativeBias(config)
        self.attention_norm = norm(config, config.attention_norm, gate)
        self.out = _output_projection(config, gate)
        self.dropout = nn.Dropout(config.dropout)
        self.ffn = _FeedForward(config) if config.ffn_multiple else None

    def project(self, x: Tensor) -> Projection:
        """Rows (..., D) -> u, v, q, k = SiLU(norm(x) W + b), in that order of columns."""
        config = self._config
        normed = self.in_norm(x)
        mixed = normed @ self.uvqk
        if self.uvqk_bias is not None:
            mixed = mixed + self.uvqk_bias
        if config.gate == "silu":
            u, v, q, k = F.silu(mixed).split(self._split, dim=-1)
        else:  # the older form: only the gate has a non-linearity
            u, v, q, k = mixed.split(self._split, dim=-1)
            u = u.sigmoid()
        if config.qk_scale == "rsqrt":
            q = q * config.qk_dim**-0.5
        return Projection(
            base=normed if config.residual == "normed" else x,
            u=u,
            v=v.unflatten(-1, (config.num_heads, -1)),
            q=q.unflatten(-1, (config.num_heads, -1)),
            k=k.unflatten(-1, (config.num_heads, -1)),
        )

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The k and v of `project` alone, for rows whose output nobody reads."""
        normed = self.in_norm(x)
        _, v, _, k = self.uvqk.split(self._split, dim=-1)
        parts = [normed @ k, normed @ v]
        if self.uvqk_bias is not None:
            _, v_bias, _, k_bias = self.uvqk_bias.split(self._split)
            parts = [parts[0] + k_bias, parts[1] + v_bias]
        if self._config.gate == "silu":
            parts = [F.silu(part) for part in parts]
        keys, values = (part.unflatten(-1, (self._config.num_heads, -1)) for part in parts)
        return keys, values

    def output(self, base: Tensor, u: Tensor, attended: Tensor) -> Tensor:
        """base (..., D), u and attended (..., H * V) -> the next layer's rows (..., D)."""
        normed = self.attention_norm(attended)
        gated = u * normed
        if self._config.output == "concat_ua":
            gated = torch.cat((u, normed, gated), dim=-1)
        rows: Tensor = base + self.out(self.dropout(gated))
        return rows if self.ffn is None else rows + self.ffn(rows)


class _FeedForward(nn.Module):
    """W2 dropout(SiLU(W1 norm(x))), with dropout behind; the residual is the caller's."""

    def __init__(self, config: HSTUConfig) -> None:
        super().__init__()
        width, hidden = config.d_model, config.ffn_multiple * config.d_model
        self.norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.dropout(F.silu(self.expand(self.norm(x))))
        out: Tensor = self.dropout(self.contract(hidden))
        return out


def norm(config: HSTUConfig, kind: str, width: int) -> nn.Module:
    """A LayerNorm of the kind that a field of the configuration names."""
    if kind == "none":
        return nn.Identity()
    return nn.LayerNorm(width, eps=config.norm_eps, elementwise_affine=kind == "affine")


def _output_projection(config: HSTUConfig, width: int) -> nn.Module:
    if config.output == "unprojected":
        return nn.Identity()
    out = nn.Linear(width * (3 if config.output == "concat_ua" else 1), config.d_model)
    nn.init.xavier_uniform_(out.weight)
    return out
