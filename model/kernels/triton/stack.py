"""Owns the stack for GPUs: matrix products by torch over the rows of all users, attention and pages
by Triton kernels, a launch per layer for all users.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from model.config import HSTUConfig
from model.kernels.stack import CandidateRows, EventRows
from model.kernels.triton.launch import LARGEST_HEAD, MOST_BUCKETS, Kernels
from model.kernels.triton.plan import plan_candidates, plan_events
from model.network.hstu import HSTU


class TritonStack:
    name = "triton"

    def __init__(self, network: HSTU, dtype: torch.dtype) -> None:
        """`dtype`, float32 or bfloat16, is that of the pages, and of what is multiplied."""
        self._layers, self._kernels = network.blocks, Kernels(network, dtype)
        self._products = torch.autocast(
            network.items.weight.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16
        )

    @classmethod
    def of(cls, network: HSTU, dtype: torch.dtype) -> TritonStack | None:
        """None where there is no GPU, or for a network that it does not run."""
        on_gpu = network.items.weight.device.type == "cuda"
        return cls(network, dtype) if on_gpu and _runs(network.config) else None

    def encode(self, x: Tensor, users: Sequence[EventRows]) -> Tensor:
        kernels = self._kernels
        block_rows = kernels.block_rows(max(user.count for user in users))
        plan = plan_events(users, block_rows, x.device)
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

    def score(self, x: Tensor, users: Sequence[CandidateRows]) -> Tensor:
        kernels = self._kernels
        block_rows = kernels.block_rows(max(user.count for user in users))
        plan = plan_candidates(users, block_rows, x.device)
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
