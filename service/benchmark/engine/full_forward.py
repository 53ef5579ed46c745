"""Owns the fastest full forward there is here, the honest baseline: no cache, but nothing wasted.

Never the oracle. All N + 1 rows go through in one pass; the last layer attends from the candidate
alone; buckets, mask and divisors, which depend on the history only, are made once, outside.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from model.history import History
from model.network.attention import divisors
from model.network.hstu import HSTU, Placing
from model.operations import Operations

_MAX_BATCH = 64
_MAX_WEIGHTS = 1 << 26
"""Attention weights of a layer in one batch: a quarter of a gigabyte in float32."""


class FullForward:
    """Scores candidates as a service without a user state does: the history anew for each."""

    def __init__(self, network: HSTU, history: History, request_time: int) -> None:
        """`request_time` in Unix seconds."""
        self._network, device = network, network.items.weight.device
        self._items, self._actions, times = (
            column.to(device) for column in (history.items, history.actions, history.timestamps)
        )
        now = times.new_tensor([request_time])
        own = torch.cat((times, now))
        index = torch.arange(len(own), device=device)
        self._distance = index[:, None] - index
        self._bucket = network.time_buckets(torch.cat((own[1:], now))[:, None], own)
        self._mask = (self._distance >= 0).float()
        self._placing = Placing(index[:-1], index[-1], now - times)
        self._divisor = divisors(network.config, index + 1)[:, None]

    @property
    def batch(self) -> int:
        """Candidates that go well together: their attention weights must fit into memory."""
        weights = self._network.config.num_heads * self._mask.numel()
        return max(1, min(_MAX_BATCH, _MAX_WEIGHTS // weights))

    @property
    def num_operations(self) -> int:
        """Of one candidate's matrix products, which do not skip the future."""
        config, num_rows = self._network.config, len(self._mask)
        return Operations(config).square(num_rows)

    @torch.inference_mode()
    def score(self, candidates: Tensor) -> Tensor:
        """Candidates (B,), each with its own copy of the history -> action logits (B, actions)."""
        network, n = self._network, len(self._items)
        history = network.event_rows(self._items, self._actions, self._placing)
        rows = network.candidate_rows(candidates, torch.full_like(candidates, n))[:, None]
        x = torch.cat((history.expand(len(candidates), -1, -1), rows), 1)  # (B, N + 1, D)
        for index, layer in enumerate(network.blocks):
            read = slice(n, None) if index == len(network.blocks) - 1 else slice(None)
            p = layer.project(x)
            q, k, v = p.q[:, read].transpose(1, 2), p.k.transpose(1, 2), p.v.transpose(1, 2)
            scores = q @ k.transpose(-1, -2)
            scores += layer.bias(self._distance[read], self._bucket[read])
            weights = F.silu(scores, inplace=True).mul_(self._mask[read])
            attended = (weights @ v).transpose(1, 2).flatten(2) / self._divisor[read]
            x = layer.output(p.base[:, read], p.u[:, read], attended)
        return network.action_logits(x[:, -1])
