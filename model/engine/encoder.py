"""Owns encoding event rows: prefill, extend and the pending row, for many users in one pass.

Never scores candidates. Linear layers run on the rows of all users packed together; attention
runs per user against that user's own keys, so no row sees padding or a batch mate.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.cacheability import classify
from model.config import HSTUConfig
from model.engine.state import UserState
from model.history import History
from model.network.attention import attend, divisors
from model.network.hstu import HSTU, Placing
from model.network.layer import HSTULayer, Projection


@dataclass(frozen=True, slots=True)
class EncodeJob:
    """Bring `state` to `history`; with `request_time`, run the pending row as of then too."""

    state: UserState
    history: History
    request_time: int | None = None  # Unix seconds


@dataclass(frozen=True, slots=True)
class LiveUser:
    """What the candidates of one request see: every event row, the pending one as of now."""

    keys: Tensor  # (layers, H, N, K)
    values: Tensor  # (layers, H, N, V)
    bias: Tensor  # (layers, G, N + 1); all candidates share position and time; the last is self
    divisor: Tensor  # scalar
    query: Tensor | None  # (D,) prepared retrieval query; None for an empty history

    @property
    def num_events(self) -> int:
        return self.keys.shape[2]


@dataclass(frozen=True, slots=True)
class Encoded:
    state: UserState
    live: LiveUser | None
    num_reused: int
    num_encoded: int  # rows run, the pending one included


class _Rows:
    """The rows one job runs: events `start` to `stop`, and the K/V buffers they fill."""

    def __init__(self, network: HSTU, job: EncodeJob, device: torch.device) -> None:
        self.job, self._config = job, network.config
        history, state = job.history, job.state
        n = len(history)
        self.start = state.reusable_rows(history)
        final = num_final_rows(network.config, n)
        self.stop = n if job.request_time is not None else final
        self.items = history.items[self.start : self.stop].to(device)
        self.actions = history.actions[self.start : self.stop].to(device)
        times = history.timestamps.to(device)
        now = times.new_tensor([0 if job.request_time is None else job.request_time])
        query_times = network.query_times(times, now)[self.start : self.stop]
        index = torch.arange(self.stop, device=device)
        rows = index[self.start :]
        self.placing = Placing(
            rows,
            rows.new_tensor(n).expand(len(rows)),
            now - times[self.start : self.stop],
        )
        self.distance = rows[:, None] - index  # (m, stop)
        self.bucket = network.time_buckets(query_times[:, None], times[: self.stop])
        self.mask = (self.distance >= 0).float() if len(rows) > 1 else None
        self.divisor = divisors(network.config, rows + 1)[:, None, None]
        layers, heads, _, qk = state.keys.shape
        self.keys = torch.empty(layers, heads, self.stop, qk, device=device)
        self.values = torch.empty(layers, heads, self.stop, state.values.shape[3], device=device)
        self.keys[:, :, : self.start] = state.keys[:, :, : self.start]
        self.values[:, :, : self.start] = state.values[:, :, : self.start]

    def __len__(self) -> int:
        return self.stop - self.start

    def attend(self, layer: HSTULayer, index: int, p: Projection, last_only: bool) -> Tensor:
        """Store this layer's K and V; attend from all rows, or from the last -> (m, H * V)."""
        self.keys[index, :, self.start :] = p.k.transpose(0, 1)
        self.values[index, :, self.start :] = p.v.transpose(0, 1)
        rows = slice(len(self) - 1, None) if last_only else slice(None)
        bias = layer.bias(self.distance[rows], self.bucket[rows])
        mask = None if last_only or self.mask is None else self.mask[rows]
        q = p.q[rows].transpose(0, 1)
        keys, values = self.keys[index], self.values[index]
        out = attend(self._config, q, keys, values, bias, mask).transpose(0, 1)
        return (out / self.divisor[rows]).flatten(1)


class Encoder:
    """Runs event rows through a network in evaluation mode."""

    def __init__(self, network: HSTU) -> None:
        self._network = network

    @torch.inference_mode()
    def encode(self, jobs: Sequence[EncodeJob]) -> list[Encoded]:
        """One jagged pass over the rows that each job's state lacks."""
        network = self._network
        device = network.items.weight.device
        rows = [_Rows(network, job, device) for job in jobs]
        last = self._run([r for r in rows if len(r)], device)
        results = []
        for r in rows:
            final = num_final_rows(network.config, len(r.job.history))
            state = UserState(r.job.history, r.keys[:, :, :final], r.values[:, :, :final])
            live = None
            if r.job.request_time is not None:
                live = self._live(r, r.job.request_time, last.get(id(r)))
            results.append(Encoded(state, live, r.start, len(r)))
        return results

    def _run(self, rows: Sequence[_Rows], device: torch.device) -> dict[int, Tensor]:
        """Run all layers; the outputs of the pending rows by job."""
        if not rows:
            return {}
        network = self._network
        x = network.event_rows(
            torch.cat([r.items for r in rows]),
            torch.cat([r.actions for r in rows]),
            Placing(
                torch.cat([r.placing.index for r in rows]),
                torch.cat([r.placing.num_events for r in rows]),
                torch.cat([r.placing.age_s for r in rows]),
            ),
        )
        sizes = [len(r) for r in rows]
        for index, layer in enumerate(network.blocks):
            # Past the last layer only the pending rows are read; the others leave K and V.
            is_last = index == len(network.blocks) - 1
            p = layer.project(x)
            parts = [
                r.attend(layer, index, part, is_last)
                for r, part in zip(rows, _split(p, sizes), strict=True)
            ]
            base, u = p.base, p.u
            if is_last:
                ends = torch.tensor(sizes, device=device).cumsum(0) - 1
                base, u = base[ends], u[ends]
            x = layer.output(base, u, torch.cat(parts))
        return {id(r): out for r, out in zip(rows, network.final_norm(x), strict=True)}

    def _live(self, r: _Rows, request_time: int, out: Tensor | None) -> LiveUser:
        network = self._network
        times = r.job.history.timestamps.to(r.keys.device)
        n = len(times)
        distance = torch.arange(n, -1, -1, device=times.device)
        now = times.new_tensor([request_time])
        bucket = network.time_buckets(now, torch.cat((times, now)))
        return LiveUser(
            keys=r.keys,
            values=r.values,
            bias=torch.stack([layer.bias(distance, bucket) for layer in network.blocks]),
            divisor=divisors(network.config, distance.new_tensor(n + 1)),
            query=None if out is None else network.retrieval.prepare(out),
        )


def num_final_rows(config: HSTUConfig, num_events: int) -> int:
    """Rows of a history that the next request can reuse."""
    return max(num_events - 1, 0) if classify(config).across_requests else 0


def _split(p: Projection, sizes: list[int]) -> list[Projection]:
    columns = zip(*(t.split(sizes) for t in (p.base, p.u, p.v, p.q, p.k)), strict=True)
    return [Projection(*parts) for parts in columns]
