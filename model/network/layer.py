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
        values, keys = heads * config.v_dim, heads * config.qk_dim
        self._split = [0 if config.gate == "none" else values, values, keys, keys]
        self.in_norm = norm(config, config.in_norm, width)
        self.uvqk = nn.Parameter(_projection(config, width, sum(self._split)))
        self.uvqk_bias = (
            nn.Parameter(torch.zeros(sum(self._split))) if config.projection_bias else None
        )
        self.bias = RelativeBias(config)
        self.attention_norm = norm(config, config.attention_norm, values)
        self.out = _output_projection(config, values)
        self.dropout = nn.Dropout(config.dropout)
        self.ffn = _FeedForward(config) if config.ffn_multiple else None

    def project(self, x: Tensor) -> Projection:
        """Rows (..., D) -> u, v, q, k = SiLU(norm(x) W + b), in that order of columns."""
        config = self._config
        normed = self.in_norm(x)
        if config.keys == "normed":
            mixed = normed @ self.uvqk
            if self.uvqk_bias is not None:
                mixed = mixed + self.uvqk_bias
            if config.gate == "silu":
                mixed = F.silu(mixed)
            u, v, q, k = mixed.split(self._split, dim=-1)
        else:
            u, v, q, k = map(self._part, (normed, x, normed, x), range(4))
        if config.gate == "sigmoid":  # the older form: only the gate has a non-linearity
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
        rows = x if self._config.keys == "input" else self.in_norm(x)
        keys, values = (
            self._part(rows, place).unflatten(-1, (self._config.num_heads, -1)) for place in (3, 1)
        )
        return keys, values

    def _part(self, rows: Tensor, place: int) -> Tensor:
        """One of u, v, q and k alone, by its place, of the rows (..., D) it is made of."""
        part = rows @ self.uvqk.split(self._split, dim=-1)[place]
        if self.uvqk_bias is not None:
            part = part + self.uvqk_bias.split(self._split)[place]
        return F.silu(part) if self._config.gate == "silu" else part

    def output(self, base: Tensor, u: Tensor, attended: Tensor) -> Tensor:
        """base (..., D), u and attended (..., H * V) -> the next layer's rows (..., D)."""
        normed = self.attention_norm(attended)
        gated = normed if self._config.gate == "none" else u * normed
        if self._config.output == "concat_ua":
            gated = torch.cat((u, normed, gated), dim=-1)
        rows: Tensor = base + self.out(self.dropout(gated))
        if self.ffn is not None:
            rows = self.ffn(rows)
        return rows


class _FeedForward(nn.Module):
    """x + W2 dropout(SiLU(W1 norm(x))), with dropout before the sum."""

    def __init__(self, config: HSTUConfig) -> None:
        super().__init__()
        self._config = config
        width, hidden = config.d_model, config.ffn_multiple * config.d_model
        self.norm = norm(config, "plain" if config.in_norm == "plain" else "affine", width)
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        activate = F.relu if self._config.ffn_activation == "relu" else F.silu
        hidden = self.dropout(activate(self.expand(normed)))
        base = normed if self._config.residual == "normed" else x
        out: Tensor = base + self.dropout(self.contract(hidden))
        return out


def norm(config: HSTUConfig, kind: str, width: int) -> nn.Module:
    """A LayerNorm of the kind that a field of the configuration names."""
    if kind == "none":
        return nn.Identity()
    return nn.LayerNorm(width, eps=config.norm_eps, elementwise_affine=kind == "affine")


def _projection(config: HSTUConfig, width: int, columns: int) -> Tensor:
    """First weights, as small as the research code draws them, or as its SASRec's."""
    weights = torch.empty(width, columns)
    return nn.init.xavier_normal_(weights) if config.gate == "none" else weights.normal_(std=0.02)


def _output_projection(config: HSTUConfig, width: int) -> nn.Module:
    if config.output == "unprojected":
        return nn.Identity()
    out = nn.Linear(width * (3 if config.output == "concat_ua" else 1), config.d_model)
    nn.init.xavier_uniform_(out.weight)
    return out
