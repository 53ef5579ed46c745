"""Owns the stack in plain tensor operations: runs every formulation, on every device.

Linear layers run on the rows of all users packed together; attention runs per user, on that user's
rows gathered from their pages.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

from model.kernels.stack import (
    CandidateRows,
    EventRows,
    action_logits,
    candidate_inputs,
    event_inputs,
)
from model.network.attention import attend, divisors
from model.network.hstu import HSTU
from model.network.layer import HSTULayer, Projection


class TensorStack:
    name = "tensor"

    def __init__(self, network: HSTU, dtype: torch.dtype = torch.float32) -> None:
        """`dtype` is the pages' own; what is multiplied is float32."""
        del dtype
        self._network = network

    def capturing(self) -> AbstractContextManager[None]:
        return nullcontext()

    def encode(self, users: Sequence[EventRows]) -> Tensor:
        network, x = self._network, event_inputs(self._network, users)
        runs = [_Run(network, user) for user in users]
        ends = torch.tensor([user.count for user in users], device=x.device).cumsum(0) - 1
        blocks = network.blocks
        for index, layer in enumerate(blocks):
            # Past the last layer only last rows are read; the others leave K and V.
            is_last = index == len(blocks) - 1
            p = layer.project(x)
            parts = [
                run.attend(layer, index, part, is_last)
                for run, part in zip(runs, _split(p, [u.count for u in users]), strict=True)
            ]
            base, u = (p.base[ends], p.u[ends]) if is_last else (p.base, p.u)
            x = layer.output(base, u, torch.cat(parts))
        for run, user in zip(runs, users, strict=True):
            new = slice(user.start, None)
            user.rows.write(user.start, run.keys[:, :, new], run.values[:, :, new])
        return network.retrieval.prepare(network.final_norm(x))

    def score(self, users: Sequence[CandidateRows]) -> list[Tensor]:
        network, sizes = self._network, [user.count for user in users]
        x = candidate_inputs(network, users)
        histories = [_Seen(network, user, x.device) for user in users]
        for index, layer in enumerate(network.blocks):
            p = layer.project(x)
            parts = [
                seen.attend(index, part)
                for seen, part in zip(histories, _split(p, sizes), strict=True)
            ]
            x = layer.output(p.base, p.u, torch.cat(parts))
        return action_logits(network, x, users)


class _Run:
    """The event rows that one user runs, and all K and V that they see."""

    def __init__(self, network: HSTU, user: EventRows) -> None:
        self._config, self._start = network.config, user.start
        held = user.rows.cut(user.start).read()
        device = held[0].device
        self.keys, self.values = (F.pad(part, (0, 0, 0, user.count)) for part in held)
        times = user.history.timestamps.to(device)
        now = times.new_tensor([user.request_time])
        query_times = network.query_times(times, now)[user.start : user.stop]
        index = torch.arange(user.stop, device=device)
        rows = index[user.start :]
        self._distance = rows[:, None] - index  # (m, stop)
        self._bucket = network.time_buckets(query_times[:, None], times[: user.stop])
        self._mask = (self._distance >= 0).float()
        self._divisor = divisors(network.config, rows + 1)[:, None, None]

    def attend(self, layer: HSTULayer, index: int, p: Projection, last_only: bool) -> Tensor:
        """Keep this layer's K and V; attend from all rows, or from the last -> (m, H * V)."""
        self.keys[index, :, self._start :] = p.k.transpose(0, 1)
        self.values[index, :, self._start :] = p.v.transpose(0, 1)
        rows = slice(-1, None) if last_only else slice(None)
        bias = layer.bias(self._distance[rows], self._bucket[rows])
        q = p.q[rows].transpose(0, 1)
        keys, values = self.keys[index], self.values[index]
        out = attend(self._config, q, keys, values, bias, self._mask[rows]).transpose(0, 1)
        return (out / self._divisor[rows]).flatten(1)


class _Seen:
    """What one user's candidates see: the rows, and biases that they share."""

    def __init__(self, network: HSTU, user: CandidateRows, device: torch.device) -> None:
        self._config = network.config
        self._keys, self._values = user.rows.read()
        now = user.history.timestamps.new_tensor([user.request_time])
        times = torch.cat((user.history.timestamps, now)).to(device)
        n = len(user.history.timestamps)
        distance = torch.arange(n, -1, -1, device=device)
        bucket = network.time_buckets(now.to(device), times)
        self._bias = [layer.bias(distance, bucket) for layer in network.blocks]  # (G, N + 1)
        self._divisor = divisors(network.config, distance.new_tensor(n + 1))

    def attend(self, index: int, p: Projection) -> Tensor:
        """Rows of one layer -> (M, H * V), divided."""
        history, own = self._bias[index][:, None, :-1], self._bias[index][:, -1]
        keys, values = self._keys[index], self._values[index]
        attended = attend(self._config, p.q.transpose(0, 1), keys, values, history)
        weight = F.silu((p.q * p.k).sum(-1) + own)  # (M, H)
        out = torch.addcmul(attended.transpose(0, 1), weight.unsqueeze(-1), p.v)
        return (out / self._divisor).flatten(1)


def _split(p: Projection, sizes: list[int]) -> list[Projection]:
    columns = zip(*(t.split(sizes) for t in (p.base, p.u, p.v, p.q, p.k)), strict=True)
    return [Projection(*parts) for parts in columns]
