"""Owns the network: embeddings, layers, heads, and the padded forward that training runs.

Never caches. Train as you serve: the training pass holds event rows *and* candidate rows under
the serving mask, so the action head learns from exactly the rows it will be read from.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.calibration import Calibration
from model.config import NO_ACTION, HSTUConfig
from model.network.attention import activate_, divisors
from model.network.batch import Batch
from model.network.bias import TimeBuckets
from model.network.fusion import fusion
from model.network.heads import ActionHead, RetrievalHead
from model.network.layer import HSTULayer, Projection, norm
from model.network.padded_attention import padded_attention


@dataclass(frozen=True, slots=True)
class Rows:
    """Outputs of the last layer."""

    events: Tensor  # (B, L, D); row i has seen events 0..i
    candidates: Tensor | None  # (B, L + 1, D); row i is event i's item before it happened


@dataclass(frozen=True, slots=True)
class Placing:
    """Where event rows stand, as far as their input depends on it; all broadcast to one shape."""

    index: Tensor  # int64, from the start of the window
    num_events: Tensor  # int64, events in the window
    age_s: Tensor  # int64, request time - event time

    def to(self, device: torch.device) -> "Placing":
        return Placing(self.index.to(device), self.num_events.to(device), self.age_s.to(device))


class HSTU(nn.Module):
    """One config-driven HSTU."""

    def __init__(self, config: HSTUConfig) -> None:
        super().__init__()
        self.config = config
        width = config.d_model
        self.items = _embedding(config.num_items, width)
        self.actions = _embedding(1 + len(config.actions), width) if config.tasks else None
        self.fusion = fusion(config) if config.tasks else None
        self.positions = _embedding(config.max_positions, width) if config.max_positions else None
        ages = config.input_times
        self.age_buckets = TimeBuckets(ages)
        self.ages = _embedding(ages.num_buckets + 1, width) if ages else None
        self.time_buckets = TimeBuckets(config.time_bias)
        self.layers = nn.ModuleList(HSTULayer(config) for _ in range(config.num_layers))
        self.final_norm = norm(config, "affine" if config.final_norm else "none", width)
        self.retrieval = RetrievalHead(config)
        self.action_head = ActionHead(config) if config.tasks else None
        self.calibration: Calibration | None = None  # of the action head's logits
        self.dropout = nn.Dropout(config.dropout)

    @property
    def blocks(self) -> list[HSTULayer]:
        return [layer for layer in self.layers if isinstance(layer, HSTULayer)]

    @property
    def places_events(self) -> bool:
        """Whether an event row depends on where it stands; those of most models do not."""
        return self.positions is not None or self.ages is not None

    @property
    def item_scale(self) -> float:
        """Of item embeddings where they are input."""
        return self.config.d_model**0.5 if self.config.item_scale == "sqrt_d" else 1.0

    def event_rows(self, items: Tensor, actions: Tensor, placing: Placing | None = None) -> Tensor:
        """Indices (...) -> input rows (..., D); `placing` for a model that places events."""
        rows = self.pair_rows(items, actions)
        if placing is None:
            assert not self.places_events
            return rows
        if self.positions is not None:
            from_end = placing.num_events - 1 - placing.index
            place = placing.index if self.config.positions == "start" else from_end
            rows = rows + self.positions(place.clamp(0, self.config.max_positions - 1))
        if self.ages is not None:
            zero = torch.zeros_like(placing.age_s)
            rows = rows + self.ages(self.age_buckets(placing.age_s.clamp(min=0), zero))
        return rows

    def pair_rows(self, items: Tensor, actions: Tensor) -> Tensor:
        """Indices (...), broadcast -> event rows (..., D) before they are placed."""
        items, actions = torch.broadcast_tensors(items, actions)
        return self._fused(items, None if self.actions is None else self.actions(actions))

    def candidate_rows(self, items: Tensor, num_events: Tensor) -> Tensor:
        """Item indices (...) after `num_events` events -> input rows (..., D), "no action yet"."""
        assert self.actions is not None, "a model without action tasks has no candidate rows"
        rows = self._fused(items, self.actions.weight[NO_ACTION].expand(*items.shape, -1))
        if self.positions is not None:
            rows = rows + self.positions(num_events.clamp(max=self.config.max_positions - 1))
        return rows

    def action_logits(self, rows: Tensor) -> Tensor:
        """Candidate rows (..., D) -> (..., actions); no actions for a model without tasks."""
        if self.action_head is None:
            return rows.new_empty(*rows.shape[:-1], 0)
        logits: Tensor = self.action_head(rows)
        return logits

    def action_probabilities(self, logits: Tensor) -> Tensor:
        """Logits (..., actions) -> probabilities of the same shape, calibrated if that was done."""
        if self.action_head is None:
            return logits
        calibrated = logits if self.calibration is None else self.calibration(logits)
        return self.action_head.probabilities(calibrated)

    def query_times(self, timestamps: Tensor, request_time: Tensor) -> Tensor:
        """The time each event row looks from: (..., N) and (..., 1) int64 -> (..., N)."""
        if self.config.time_query == "self":
            return timestamps
        return torch.cat((timestamps[..., 1:], request_time), dim=-1)

    def forward(self, batch: Batch, *, with_candidates: bool = True) -> Rows:
        """All event rows and, with action tasks, all candidate rows of a padded batch."""
        config, items = self.config, batch.items
        own, last = batch.timestamps[:, :-1], batch.timestamps[:, -1:]
        bucket = self.time_buckets(self.query_times(own, last)[:, :, None], own[:, None, :])
        length = own.shape[1]
        index = torch.arange(length + 1, device=items.device)
        num_events = batch.lengths[:, None] - 1
        now = batch.timestamps.gather(1, num_events)
        placing = Placing(index[:-1], num_events, now - own)
        divisor = divisors(config, index + 1)[:, None]

        events = self.dropout(self.event_rows(items[:, :-1], batch.actions[:, :-1], placing))
        if not (config.tasks and with_candidates):
            for layer in self.blocks:
                e = layer.project(events)
                attended = self._attend(layer, e.q[:, None], e, bucket)[0] / divisor[:-1]
                events = layer.output(e.base, e.u, attended)
            return Rows(self.final_norm(events), None)

        candidates = self.dropout(self.candidate_rows(items, index))
        for layer in self.blocks:
            e, c = layer.project(events), layer.project(candidates)
            by_events, by_candidates = self._attend(
                layer, torch.stack((e.q, c.q[:, 1:]), 1), e, bucket
            )
            # The first candidate has no history before it.
            by_candidates = F.pad(by_candidates, (0, 0, 1, 0)) + self_attention(layer, c)
            events = layer.output(e.base, e.u, by_events / divisor[:-1])
            candidates = layer.output(c.base, c.u, by_candidates / divisor)
        return Rows(self.final_norm(events), self.final_norm(candidates))

    def _fused(self, items: Tensor, actions: Tensor | None) -> Tensor:
        """Item indices (...) and action rows (..., D), which a model without tasks has not."""
        rows: Tensor = self.items(items)
        if self.item_scale != 1:
            rows = rows * self.item_scale
        if self.fusion is None:
            return rows
        fused: Tensor = self.fusion(rows, actions)
        return fused

    def _attend(self, layer: HSTULayer, q: Tensor, e: Projection, bucket: Tensor) -> Tensor:
        """q (B, R, L, H, K) on the event rows' keys -> (R, B, L, H * V), before the divisor."""
        q, k, v = q.permute(0, 3, 1, 2, 4), e.k.transpose(1, 2), e.v.transpose(1, 2)
        if self.config.attention == "silu":
            q, k, v = q.contiguous(), k.contiguous(), v.contiguous()  # read tile by tile
            out = padded_attention(q, k, v, layer.bias.distances, layer.bias.time, bucket)
        else:
            out = self._softmax_attention(layer, q, k, v, bucket)
        return out.permute(2, 0, 3, 1, 4).flatten(3)

    def _softmax_attention(
        self, layer: HSTULayer, q: Tensor, k: Tensor, v: Tensor, bucket: Tensor
    ) -> Tensor:
        row = torch.arange(bucket.shape[1], device=bucket.device)
        distance = (row[:, None] - row).expand_as(bucket)
        bias = layer.bias(distance, bucket).transpose(0, 1).unsqueeze(2)
        scores = q @ k.unsqueeze(2).transpose(-1, -2) + bias  # (B, H, 1, L, L)
        weights = activate_(self.config, scores, torch.ones_like(scores[0, 0, 0]).tril())
        return F.dropout(weights, self.config.attention_dropout, self.training) @ v.unsqueeze(2)


def self_attention(layer: HSTULayer, rows: Projection) -> Tensor:
    """What each candidate row sees of itself: (..., H * V), before the divisor."""
    bias = layer.bias.distances[:, 0] + layer.bias.time[:, 0]
    weight = F.silu((rows.q * rows.k).sum(-1) + bias)  # (..., H)
    return (weight.unsqueeze(-1) * rows.v).flatten(-2)


def _embedding(rows: int, width: int) -> nn.Embedding:
    table = nn.Embedding(rows, width)
    nn.init.trunc_normal_(table.weight, std=0.02)
    return table
