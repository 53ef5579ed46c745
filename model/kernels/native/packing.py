"""Owns a network's weights as `stack.cpp` reads them: matrices in panels of 32 columns."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.kernels.native.records import LayerRecord, ModelRecord
from model.kernels.pages import PAGE_ROWS, numbers_per_word
from model.network.hstu import HSTU
from model.network.layer import HSTULayer


class PackedNetwork:
    """The record of a network, and the copies of its weights that it points to."""

    def __init__(self, network: HSTU, dtype: torch.dtype) -> None:
        self._kept: list[Tensor] = []
        self._dtype = dtype
        config, blocks = network.config, network.blocks
        boundaries = network.time_buckets.boundaries
        self.record = ModelRecord(
            num_layers=config.num_layers,
            width=config.d_model,
            heads=config.num_heads,
            qk=config.qk_dim,
            v=config.v_dim,
            bias_heads=config.num_bias_heads,
            num_distances=blocks[0].bias.distances.shape[1],
            num_boundaries=len(boundaries),
            gate_is_sigmoid=config.gate == "sigmoid",
            residual_is_normed=config.residual == "normed",
            output_is_concatenated=config.output == "concat_ua",
            query_is_next=config.time_query == "next",
            is_bfloat16=dtype == torch.bfloat16,
            norm_eps=config.norm_eps,
            q_scale=config.qk_dim**-0.5 if config.qk_scale == "rsqrt" else 1.0,
            divisor=0.0 if config.divisor == "count" else config.divisor,
            boundaries=self._address(boundaries),
            layers=(LayerRecord * len(blocks))(*map(self._layer, blocks)),
            **self._around(network),
        )

    def _around(self, network: HSTU) -> dict[str, Any]:
        """What is around the layers, in float32."""
        config, head = network.config, network.action_head
        parts = {"items": network.items.weight, "age_boundaries": network.age_buckets.boundaries}
        tables = {"positions": network.positions, "ages": network.ages}
        rows_per_item = 1
        if config.fusion == "sum":
            tables["actions"] = network.actions
        elif config.tasks:
            parts["items"], rows_per_item = _pairs(network), 1 + len(config.actions)
        parts |= {name: table.weight for name, table in tables.items() if table is not None}
        if isinstance(network.final_norm, nn.LayerNorm):
            parts |= _scale_and_shift("final", network.final_norm)
        if head is not None:
            for name, linear in (("hidden", head.hidden), ("logits", head.logits)):
                parts[name] = _panels(linear.weight.T, torch.float32)
                parts[f"{name}_shift"] = _padded(linear.bias)
        return {name: self._address(part) for name, part in parts.items()} | {
            "num_items": config.num_items,
            "rows_per_item": rows_per_item,
            "num_actions": 1 + len(config.actions),
            "num_positions": config.max_positions,
            "num_age_boundaries": len(network.age_buckets.boundaries),
            "num_logits": len(config.actions),
            "query_width": config.d_model + config.item_bias,
            "positions_from_end": config.positions == "end",
            "query_is_unit": config.similarity == "cosine",
            "item_scale": network.item_scale if rows_per_item == 1 else 1.0,
            "similarity_eps": config.similarity_eps,
        }

    def _layer(self, block: HSTULayer) -> LayerRecord:
        columns = block.uvqk.shape[1]
        parts = {
            "mix": _panels(block.uvqk, self._dtype),
            "mix_shift": _padded(_or(torch.zeros(columns), block.uvqk_bias)),
            "position": block.bias.distances,
            "time": block.bias.time,
        }
        for name, norm in (("in", block.in_norm), ("attention", block.attention_norm)):
            if isinstance(norm, nn.LayerNorm):
                parts |= _scale_and_shift(name, norm)
        if isinstance(block.out, nn.Linear):
            parts["out"] = _panels(block.out.weight.T, self._dtype)
            parts["out_shift"] = _padded(block.out.bias)
        return LayerRecord(**{name: self._address(part) for name, part in parts.items()})

    def _address(self, tensor: Tensor) -> int:
        self._kept.append(tensor.detach().contiguous())
        return self._kept[-1].data_ptr()


def _pairs(network: HSTU) -> Tensor:
    """(items * (actions + 1), D), an item's rows one after another."""
    items, actions = map(torch.arange, (network.config.num_items, 1 + len(network.config.actions)))
    with torch.inference_mode():
        return network.pair_rows(items.unsqueeze(1), actions).flatten(0, 1)


def _panels(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """(in, out) -> (out / 32, in / p, 32, p): p rows share a word of 32 bits."""
    per_word = numbers_per_word(dtype, weight.device)
    rows = F.pad(_padded(weight), (0, 0, 0, -len(weight) % per_word)).to(dtype)
    words = rows.reshape(-1, per_word, rows.shape[1] // PAGE_ROWS, PAGE_ROWS)
    return words.permute(2, 0, 3, 1)


def _scale_and_shift(name: str, norm: nn.LayerNorm) -> dict[str, Tensor]:
    size = norm.normalized_shape
    return {
        f"{name}_scale": _or(torch.ones(size), norm.weight),
        f"{name}_shift": _or(torch.zeros(size), norm.bias),
    }


def _or(default: Tensor, given: Tensor | None) -> Tensor:
    return default if given is None else given


def _padded(columns: Tensor) -> Tensor:
    """Zeros behind the last column (..., C), up to whole panels."""
    return F.pad(columns, (0, -columns.shape[-1] % PAGE_ROWS))
