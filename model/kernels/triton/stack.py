"""Owns the stack for GPUs: matrix products by torch over the rows of all users, attention and pages
by Triton kernels, a launch per layer for all users.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from model.config import HSTUConfig
from model.kernels.stack import (
    CandidateRows,
    EventRows,
    action_logits,
    candidate_inputs,
    event_inputs,
)
from model.kernels.triton.capture import Capture, CudaCapture
from model.kernels.triton.launch import LARGEST_HEAD, MOST_BUCKETS, Kernels
from model.kernels.triton.layers import own_layers
from model.kernels.triton.passes import Passes
from model.kernels.triton.plan import Plan, candidate_sheet, event_sheet
from model.network.hstu import HSTU


class TritonStack:
    def __init__(self, network: HSTU, dtype: torch.dtype, capture: Capture | None = None) -> None:
        """`dtype`, float32 or bfloat16, is that of the pages, and of what is multiplied.

        Without `capture` every pass goes launch by launch.
        """
        self._network = network
        self._layers = own_layers(network, dtype)
        self._kernels = Kernels(network, self._layers, dtype)
        # What a capture casts must not be found by the passes after it.
        self._products = torch.autocast(
            network.items.weight.device.type,
            torch.bfloat16,
            enabled=dtype == torch.bfloat16,
            cache_enabled=False,
        )
        most_events = network.config.window.capacity
        self._encodes = Passes(self._encode, capture, most_events)
        self._scores = Passes(self._score, capture, most_events)

    @classmethod
    def of(cls, network: HSTU, dtype: torch.dtype) -> TritonStack | None:
        """None where there is no GPU, or for a network that it does not run."""
        on_gpu = network.items.weight.device.type == "cuda"
        return cls(network, dtype, CudaCapture()) if on_gpu and _runs(network.config) else None

    @property
    def name(self) -> str:
        num_captured = self._encodes.num_captured + self._scores.num_captured
        return f"triton, {num_captured} captured passes" if num_captured else "triton"

    @contextmanager
    def capturing(self) -> Iterator[None]:
        with self._encodes.capturing(), self._scores.capturing():
            yield

    def encode(self, users: Sequence[EventRows]) -> Tensor:
        network, x = self._network, event_inputs(self._network, users)
        block_rows = self._kernels.block_rows(max(user.count for user in users))
        out = self._encodes(x, event_sheet(users, block_rows))
        return network.retrieval.prepare(network.final_norm(out))

    def score(self, users: Sequence[CandidateRows]) -> list[Tensor]:
        network, x = self._network, candidate_inputs(self._network, users)
        block_rows = self._kernels.block_rows(max(user.count for user in users))
        out = self._scores(x, candidate_sheet(users, block_rows))
        return action_logits(network, out, users)

    def _encode(self, x: Tensor, plan: Plan) -> Tensor:
        kernels = self._kernels
        buckets = kernels.buckets(plan)
        last = len(self._layers) - 1
        with self._products:
            for index, layer in enumerate(self._layers[:last]):
                p = layer.project(x)
                kernels.write(plan, index, p.k, p.v)
                x = layer.output(p.base, p.u, kernels.attend_events(plan, index, buckets, p.q))
            # Past the last layer only last rows are read; the others leave K and V.
            layer = self._layers[last]
            kernels.write(plan, last, *layer.keys_and_values(x))
            p = layer.project(x[plan.last_rows])
            return layer.output(p.base, p.u, kernels.attend_lasts(plan, last, buckets, p.q))

    def _score(self, x: Tensor, plan: Plan) -> Tensor:
        kernels = self._kernels
        buckets = kernels.buckets(plan)
        with self._products:
            for index, layer in enumerate(self._layers):
                p = layer.project(x)
                x = layer.output(p.base, p.u, kernels.attend_candidates(plan, index, buckets, p))
        return x


def _runs(config: HSTUConfig) -> bool:
    num_buckets = config.time_bias.num_buckets if config.time_bias else 0
    return (
        config.attention == "silu"
        and max(config.qk_dim, config.v_dim) <= LARGEST_HEAD
        and num_buckets <= MOST_BUCKETS
    )
