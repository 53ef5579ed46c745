"""Owns the network: embeddings, layers, heads, and the padded forward that training runs.

Never caches. Train as you serve: the training pass holds event rows *and* candidate rows under
the serving mask, so the action head learns from exactly the rows it will be read from.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import NO_ACTION, HSTUConfig
from model.network.attention import divisors
from model.network.bias import TimeBuckets
from model.network.heads import ActionHead, RetrievalHead
from model.network.layer import HSTULayer, Projection
from model.network.padded_attention import padded_attention


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded sequences of L + 1 events each; padding holds item 0, action 0, the last time.

    Event rows are made of the first L events; each looks from the time of the event after it.
    """

    items: Tensor  # (B, L + 1) int64
    actions: Tensor  # (B, L + 1) int64
    timestamps: Tensor  # (B, L + 1) int64
    lengths: Tensor  # (B,) int64, real events per user, at least 1

    @property
    def valid(self) -> Tensor:
        """(B, L + 1) bool, True on real events."""
        return torch.arange(self.items.shape[1], device=self.items.device) < self.lengths[:, None]


@dataclass(frozen=True, slots=True)
class Rows:
    """Outputs of the last layer."""

    events: Tensor  # (B, L, D); row i has seen events 0..i
    candidates: Tensor  # (B, L + 1, D); row i is event i's item before it happened


class HSTU(nn.Module):
    """One config-driven HSTU."""

    def __init__(self, config: HSTUConfig) -> None:
        super().__init__()
        self.config = config
        self.items = nn.Embedding(config.num_items, config.d_model)
        self.actions = nn.Embedding(1 + len(config.actions), config.d_model)
        self.time_buckets = TimeBuckets(config)
        self.layers = nn.ModuleList(HSTULayer(config) for _ in range(config.num_layers))
        self.retrieval = RetrievalHead(config)
        self.action_head = ActionHead(config)
        self.dropout = nn.Dropout(config.dropout)
        for table in (self.items, self.actions):
            nn.init.trunc_normal_(table.weight, std=0.02)

    @property
    def blocks(self) -> list[HSTULayer]:
        return [layer for layer in self.layers if isinstance(layer, HSTULayer)]

    def event_rows(self, items: Tensor, actions: Tensor) -> Tensor:
        """Indices (...) -> input rows (..., D)."""
        rows: Tensor = self.items(items) + self.actions(actions)
        return rows

    def candidate_rows(self, items: Tensor) -> Tensor:
        """Item indices (...) -> input rows (..., D), fused with "no action yet"."""
        rows: Tensor = self.items(items) + self.actions.weight[NO_ACTION]
        return rows

    def forward(self, batch: Batch) -> Rows:
        """All event rows and all candidate rows of a padded batch."""
        items, times = batch.items, batch.timestamps
        bucket = self.time_buckets(times[:, 1:, None], times[:, None, :-1])  # (B, L, L)
        length = items.shape[1] - 1
        seen = torch.arange(length + 1, device=items.device)
        event_divisor = divisors(self.config, seen[:-1] + 1)[:, None]
        candidate_divisor = divisors(self.config, seen + 1)[:, None]

        events = self.dropout(self.event_rows(items[:, :-1], batch.actions[:, :-1]))
        candidates = self.dropout(self.candidate_rows(items))
        for layer in self.blocks:
            e, c = layer.project(events), layer.project(candidates)
            q = torch.stack((e.q, c.q[:, 1:]), 1).permute(0, 3, 1, 2, 4)  # (B, H, 2, L, K)
            k, v = e.k.transpose(1, 2), e.v.transpose(1, 2)
            attended = padded_attention(q, k, v, layer.bias.position, layer.bias.time, bucket)
            by_events, by_candidates = attended.permute(2, 0, 3, 1, 4).flatten(3)  # (B, L, H * V)
            # The first candidate has no history before it.
            by_candidates = F.pad(by_candidates, (0, 0, 1, 0)) + self_attention(layer, c)
            events = layer.output(e.base, e.u, by_events / event_divisor)
            candidates = layer.output(c.base, c.u, by_candidates / candidate_divisor)
        return Rows(events, candidates)


def self_attention(layer: HSTULayer, rows: Projection) -> Tensor:
    """What each candidate row sees of itself: (..., H * V), before the divisor."""
    bias = layer.bias.position[:, 0] + layer.bias.time[:, 0]
    weight = F.silu((rows.q * rows.k).sum(-1) + bias)  # (..., H)
    return (weight.unsqueeze(-1) * rows.v).flatten(-2)
