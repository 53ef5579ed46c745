"""Owns the full forward of a service without states: all candidates of a request in one pass.

Never the oracle: it is the fastest plain way. History rows attend to those before them, candidate
rows to the whole history and themselves; past the last layer only what is read is computed.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from model.history import History
from model.network.attention import divisors
from model.network.hstu import HSTU, Placing
from model.network.layer import HSTULayer


@dataclass(frozen=True, slots=True)
class Scores:
    retrieval: Tensor  # (M,) logits
    actions: Tensor  # (M, actions) logits


@torch.inference_mode()
def full_forward(network: HSTU, history: History, request_time: int, candidates: Tensor) -> Scores:
    """At least one event, `request_time` in Unix seconds, candidates (M,) int64."""
    n = len(history)
    now = torch.tensor([request_time])
    times = torch.cat((history.timestamps, now))
    index = torch.arange(n + 1)
    relations = _Relations(
        distance=index[:, None] - index,
        bucket=network.time_buckets(torch.cat((times[1:], now))[:, None], times),
        mask=(index[:n, None] >= index[:n]).float(),
        divisor=divisors(network.config, index + 1),
    )
    placing = Placing(index[:n], index[n], now - history.timestamps)
    events = network.event_rows(history.items, history.actions, placing)
    rows = network.candidate_rows(candidates, torch.full_like(candidates, n))
    x = torch.cat((events, rows))
    for number, layer in enumerate(network.blocks):
        first = n - 1 if number == len(network.blocks) - 1 else 0  # only what is read
        x = _layer(layer, x, relations, first)
    x = network.final_norm(x)
    retrieval = network.retrieval
    items = retrieval.prepare_items(network.items.weight)[candidates]
    return Scores(retrieval(retrieval.prepare(x[0]), items), network.action_logits(x[1:]))


@dataclass(frozen=True, slots=True)
class _Relations:
    distance: Tensor  # (N + 1, N + 1)
    bucket: Tensor  # (N + 1, N + 1)
    mask: Tensor  # (N, N)
    divisor: Tensor  # (N + 1,)


def _layer(layer: HSTULayer, x: Tensor, relations: _Relations, first: int) -> Tensor:
    """Rows (N + M, D) -> those of events `first` to N - 1 and of all candidates."""
    n = len(relations.mask)
    p = layer.project(x)
    bias = layer.bias(relations.distance[first:], relations.bucket[first:])  # (G, .., N + 1)
    q, k, v = (each.transpose(0, 1) for each in (p.q, p.k, p.v))  # (H, N + M, ..)
    keys, values = k[:, :n].transpose(1, 2), v[:, :n]
    to_events = F.silu(q[:, first:n] @ keys + bias[:, :-1, :-1]) * relations.mask[first:]
    to_history = F.silu(q[:, n:] @ keys + bias[:, -1:, :-1])
    to_itself = F.silu((q[:, n:] * k[:, n:]).sum(-1) + bias[:, -1, -1:])
    by_events = to_events @ values / relations.divisor[first:n, None]
    by_candidates = to_history @ values + to_itself.unsqueeze(-1) * v[:, n:]
    attended = torch.cat((by_events, by_candidates / relations.divisor[n]), 1)
    return layer.output(p.base[first:], p.u[first:], attended.transpose(0, 1).flatten(1))
