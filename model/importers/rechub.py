"""Owns importing torch-rechub's HSTU (`torch_rechub.models.generative.HSTUModel`).

Row 0 of its item table is padding. Its windows are padded on the left up to `max_seq_len`, so the
last row of its position table is the newest event's, the first row of `positions: end`. It must
have been trained with times, as its trainer does; ages at the input are request time - event time.
Its projection holds q, k, u, v.
"""

import torch
from torch import Tensor

from model.config import HSTUConfig, TimeBucketing
from model.importers.imported import Imported
from model.importers.options import ImportOptions
from model.importers.weights import ForeignWeights, ImportFailed
from model.presets import rechub

_ITEMS = "token_embedding.weight"
_POSITIONS = "position_embedding.weight"
_AGES = "time_embedding.weight"
_OUTPUT_BIAS = "output_bias"
_LAYERS = "hstu_block.layers."


def read(weights: ForeignWeights, options: ImportOptions) -> Imported:
    """
    Raises:
        ImportFailed: a tensor is missing, left over or of an impossible shape, or the output has
            a table of its own.
    """
    num_rows, width = weights.shape(_ITEMS)
    _check_output(weights)
    length, _ = weights.shape(_POSITIONS)
    num_times, heads = weights.shape(f"{_LAYERS}0.rab.ts_w")
    v_dim = weights.shape(f"{_LAYERS}0.norm_attn.weight", 1)[0] // heads
    total, _ = weights.shape(f"{_LAYERS}0.proj1.weight")
    ages = weights.shape(_AGES)[0] if _AGES in weights else None
    config = rechub(
        num_rows - 1,
        max_length=length,
        d_model=width,
        num_layers=weights.count(_LAYERS),
        num_heads=heads,
        qk_dim=total // (2 * heads) - v_dim,
        v_dim=v_dim,
        item_scale=options.item_scale or "none",
        input_times=_bucketing(ages, options),
        time_bias=_bucketing(num_times, options),
        similarity=options.similarity or "dot",
        temperature=1.0 if options.temperature is None else options.temperature,
        item_bias=_OUTPUT_BIAS in weights,
    )
    tensors = {
        "items.weight": weights.take(_ITEMS, num_rows, width)[1:],
        "positions.weight": weights.take(_POSITIONS, length, width).flip(0),
    }
    if config.item_bias:
        tensors["retrieval.bias"] = weights.take(_OUTPUT_BIAS, num_rows)[1:]
    if ages is not None:
        tensors["ages.weight"] = weights.take(_AGES, ages, width)
    for index in range(config.num_layers):
        source, target = f"{_LAYERS}{index}.", f"layers.{index}."
        tensors |= _layer(weights, source, target, config)
    weights.finish()
    return Imported(config, tensors, [str(index) for index in range(1, num_rows)])


def _layer(
    weights: ForeignWeights, source: str, target: str, config: HSTUConfig
) -> dict[str, Tensor]:
    width, heads, length = config.d_model, config.num_heads, config.max_distance
    gate, keys = heads * config.v_dim, heads * config.qk_dim
    projection = weights.linear(f"{source}proj1", "proj1", 2 * (gate + keys), width)
    parts = {name: t.split([keys, keys, gate, gate]) for name, t in projection.items()}
    q, k, u, v = parts["proj1.weight"]
    q_bias, k_bias, u_bias, v_bias = parts["proj1.bias"]
    distances = weights.take(f"{source}rab.pos_w", 2 * length - 1, heads)
    num_times = config.time_bias.num_buckets + 1 if config.time_bias else 0
    return {
        f"{target}uvqk": torch.cat((u, v, q, k)).T,
        f"{target}uvqk_bias": torch.cat((u_bias, v_bias, q_bias, k_bias)),
        f"{target}bias.position": distances[:length].flip(0).T,
        f"{target}bias.time": weights.take(f"{source}rab.ts_w", num_times, heads).T,
        **weights.linear(f"{source}norm_in", f"{target}in_norm", width),
        **weights.linear(f"{source}norm_attn", f"{target}attention_norm", gate),
        **weights.linear(f"{source}proj2", f"{target}out", width, gate),
    }


def _bucketing(rows: int | None, options: ImportOptions) -> TimeBucketing | None:
    """The buckets of a table of `rows` rows; the input's and the attention's are cut alike."""
    if rows is None:
        return None
    return TimeBucketing(
        fn=options.time_fn or "sqrt",
        unit_s=60 if options.time_unit_s is None else options.time_unit_s,
        width=1.0 if options.time_width is None else options.time_width,
        num_buckets=rows - 1,
    )


def _check_output(weights: ForeignWeights) -> None:
    if "output_projection.weight" in weights:
        raise ImportFailed(
            "output_projection.weight: an output table apart from the items can not be expressed; "
            "train with tie_embeddings=True"
        )
