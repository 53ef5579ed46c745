"""Owns starting the kernels: how large their blocks are, and what of a network each is given.

Never computes anything itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from model.kernels.pages import PagePool
from model.kernels.triton.attention import attend_candidates, attend_events
from model.kernels.triton.plan import Plan
from model.kernels.triton.rows import find_buckets, write_rows
from model.network.hstu import HSTU
from model.network.layer import HSTULayer, Projection

LARGEST_HEAD = 256
"""Numbers of a head that a program's registers hold."""

MOST_BUCKETS = 255
"""A time bucket is a byte."""

_FEW_ROWS = 16
"""The least that a matrix product on tensor cores takes: the tile of extends."""

_SPAN_KEYS = 64

PART_KEYS = 512
"""Of a long history, in a program: where rows are few, there are too few programs for a GPU."""

_SPLIT_ROWS = 128
"""Of a call with more event rows than these, a program runs over all keys."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """What a program of the attention kernels works on at once.

    Of bfloat16 tensor cores multiply, and tiles are as large as registers allow. Products in
    float32 are exact only outside of them (tf32 has 11 bits), where Triton unrolls a product and
    holds its operands in registers: rows x keys x numbers of a head must stay near 2^16, or they
    spill. `tests/model/kernels/test_compiled.py` compiles every one of these and looks.
    """

    rows: int
    keys: int
    num_warps: int
    num_stages: int = 2

    @classmethod
    def of(cls, head: int, dtype: torch.dtype) -> Blocks:
        """`head` is the larger of K and V, a power of two."""
        if dtype == torch.float32:
            rows = max(_FEW_ROWS, min(64, 4096 // head))
            return cls(rows, 32 if head <= 32 else 16, num_warps=8)
        return cls(64, 64, num_warps=4 if head <= 128 else 8)


_NUMBERS = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16}


class Kernels:
    """The kernels for one network in evaluation mode whose pages hold `dtype`."""

    def __init__(self, network: HSTU, layers: Sequence[HSTULayer], dtype: torch.dtype) -> None:
        config = network.config
        block_k, block_v = _block(config.qk_dim), _block(config.v_dim)
        self._config, self._boundaries = config, network.time_buckets.boundaries
        self._tables = [
            (block.bias.distances.contiguous(), block.bias.time.contiguous()) for block in layers
        ]
        layout = PagePool(config, network.items.weight.device, dtype)
        self._layer_numbers = math.prod(layout.shape[1:])
        self._blocks = Blocks.of(max(block_k, block_v), dtype)
        self._head: dict[str, Any] = {
            "qk_dim": config.qk_dim,
            "v_dim": config.v_dim,
            "key_numbers": layout.key_numbers,
            "per_word": layout.per_word,
            "number": _NUMBERS[dtype],
            "block_k": block_k,
            "block_v": block_v,
        }

    def block_rows(self, most_rows: int) -> int:
        """Of a tile, where no user has more rows than that."""
        return _FEW_ROWS if most_rows <= _FEW_ROWS else self._blocks.rows

    def buckets(self, plan: Plan) -> Tensor:
        """The time buckets of all spans: (num_buckets,) uint8."""
        sizes, device = plan.sizes, plan.spans.device
        buckets = torch.empty(sizes.num_buckets, dtype=torch.uint8, device=device)
        find_buckets[len(plan.spans), triton.cdiv(sizes.most_keys, _SPAN_KEYS)](
            buckets,
            plan.spans,
            plan.numbers,
            self._boundaries,
            len(self._boundaries),
            query_is_next=self._config.time_query == "next",
            block_rows=sizes.span_rows,
            block_keys=_SPAN_KEYS,
        )
        return buckets

    def write(self, plan: Plan, layer: int, k: Tensor, v: Tensor) -> None:
        """K and V of event rows, (R, H, K) and (R, H, V), into their users' pages."""
        write_rows[len(plan.tiles), self._config.num_heads](
            k,
            v,
            plan.tiles,
            plan.numbers,
            layer * self._layer_numbers,
            k.stride(0),
            v.stride(0),
            block_rows=plan.sizes.block_rows,
            num_warps=self._copying_warps(plan.sizes.block_rows),
            **self._head,
        )

    def _copying_warps(self, block_rows: int) -> int:
        """So many that a thread holds 32 numbers of K, and as many of V."""
        numbers: int = block_rows * self._head["block_k"]
        return min(16, max(4, numbers // 1024))

    def attend_events(self, plan: Plan, layer: int, buckets: Tensor, q: Tensor) -> Tensor:
        """q (R, H, K) of all rows -> (R, H * V), divided."""
        return self._attend_events(plan, plan.tiles, plan.sizes.block_rows, layer, buckets, q)

    def attend_lasts(self, plan: Plan, layer: int, buckets: Tensor, q: Tensor) -> Tensor:
        """q (users, H, K) of the last rows -> (users, H * V), divided."""
        return self._attend_events(plan, plan.lasts, _FEW_ROWS, layer, buckets, q)

    def _attend_events(
        self, plan: Plan, tiles: Tensor, block_rows: int, layer: int, buckets: Tensor, q: Tensor
    ) -> Tensor:
        most_keys = plan.sizes.most_keys
        num_parts = triton.cdiv(most_keys, PART_KEYS) if len(q) <= _SPLIT_ROWS else 1
        part_keys = PART_KEYS if num_parts > 1 else most_keys
        out = self._room(q, num_parts)
        attend_events[len(tiles), self._config.num_heads, num_parts](
            out,
            q,
            tiles,
            plan.numbers,
            buckets,
            *self._tables[layer],
            layer * self._layer_numbers,
            part_keys,
            out.stride(0),
            q.stride(0),
            **self._bias(layer),
            **self._sizes(block_rows),
        )
        return out.sum(0) if len(out) > 1 else out[0]

    def attend_candidates(self, plan: Plan, layer: int, buckets: Tensor, p: Projection) -> Tensor:
        """Candidates' rows (R, ...) -> (R, H * V), divided."""
        out = self._room(p.q)
        attend_candidates[len(plan.tiles), self._config.num_heads](
            out,
            p.q,
            p.k,
            p.v,
            plan.tiles,
            plan.numbers,
            buckets,
            *self._tables[layer],
            layer * self._layer_numbers,
            p.q.stride(0),
            p.k.stride(0),
            p.v.stride(0),
            **self._bias(layer),
            **self._sizes(plan.sizes.block_rows),
        )
        return out

    def _room(self, q: Tensor, *parts: int) -> Tensor:
        width = self._config.num_heads * self._config.v_dim
        return q.new_empty(*parts, len(q), width, dtype=torch.float32)

    def _bias(self, layer: int) -> dict[str, Any]:
        position, time = self._tables[layer]
        per_head = len(position) > 1
        return {
            "num_distances": position.shape[1],
            "position_step": position.shape[1] if per_head else 0,
            "time_step": time.shape[1] if per_head else 0,
            "divisor": 0.0 if self._config.divisor == "count" else self._config.divisor,
        }

    def _sizes(self, block_rows: int) -> dict[str, Any]:
        blocks = self._blocks
        return {
            **self._head,
            "factor": tl.float32 if triton.knobs.runtime.interpret else self._head["number"],
            "block_rows": block_rows,
            "block_keys": blocks.keys,
            "num_warps": blocks.num_warps,
            "num_stages": blocks.num_stages,
        }


def _block(dim: int) -> int:
    """The numbers of a head, in a block: a power of two that tensor cores take."""
    return max(_FEW_ROWS, int(triton.next_power_of_2(dim)))
