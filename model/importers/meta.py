"""Owns importing the research code's HSTU (`modeling/sequential/hstu.py`).

Row 0 of its item table is padding. Its position weights run from the far past to the far future;
the causal half is used, the nearest last. Both tables are as long as the attention divisor.
"""

from model.importers.imported import Imported
from model.importers.options import ImportOptions
from model.importers.weights import ForeignWeights, ImportFailed
from model.presets import META_OUTPUTS, meta

_ITEMS = "_embedding_module._item_emb.weight"
_POSITIONS = "_input_features_preproc._pos_emb.weight"
_LAYERS = "_hstu._attention_layers."


def read(weights: ForeignWeights, options: ImportOptions) -> Imported:
    """
    Raises:
        ImportFailed: a tensor is missing, left over or of an impossible shape.
    """
    if options.heads is None:
        raise ImportFailed("--heads is needed: the weights do not tell the number of heads")
    num_items, width = weights.shape(_ITEMS)
    size = weights.shape(_POSITIONS)[0]
    gate = weights.shape(f"{_LAYERS}0._o.weight")[1]
    total = weights.shape(f"{_LAYERS}0._uvqk")[1]
    values, concat_ua = _value_width(gate, total, options.heads)
    config = meta(
        num_items - 1,
        max_length=size - META_OUTPUTS,
        d_model=width,
        num_layers=weights.count(_LAYERS),
        num_heads=options.heads,
        v_dim=values // options.heads,
        qk_dim=(total // 2 - values) // options.heads,
        output="concat_ua" if concat_ua else "gated",
        temperature=0.05 if options.temperature is None else options.temperature,
    )
    columns = 2 * config.num_heads * (config.v_dim + config.qk_dim)
    num_times = config.time_bias.num_buckets + 1 if config.time_bias else 0
    tensors = {
        "items.weight": weights.take(_ITEMS, num_items, width)[1:],
        "positions.weight": weights.take(_POSITIONS, size, width),
    }
    for index in range(config.num_layers):
        source, target = f"{_LAYERS}{index}.", f"layers.{index}."
        tensors |= weights.linear(f"{source}_o", f"{target}out", width, gate)
        tensors[f"{target}uvqk"] = weights.take(f"{source}_uvqk", width, columns)
        positions = weights.take(f"{source}_rel_attn_bias._pos_w", 2 * size - 1)
        tensors[f"{target}bias.position"] = positions[:size].flip(0).unsqueeze(0)
        times = weights.take(f"{source}_rel_attn_bias._ts_w", num_times)
        tensors[f"{target}bias.time"] = times.unsqueeze(0)
    weights.drop(["_attn_mask"])
    weights.finish()
    return Imported(config, tensors, [str(index) for index in range(1, num_items)])


def _value_width(gate: int, total: int, num_heads: int) -> tuple[int, bool]:
    """Heads * V, and whether the output takes [u, a, u * a]; K equals V where both would fit."""
    if gate % 3 == 0 and total == 4 * (gate // 3):
        return gate // 3, True
    if gate >= total // 2 or gate % num_heads:
        raise ImportFailed(f"_o.weight of width {gate} does not fit _uvqk of width {total}")
    return gate, False
