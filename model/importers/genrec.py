"""Owns importing genrec's HSTU (`genrec/models/hstu.py`).

Row 0 of its item table is padding. Its position buckets put every causal pair into bucket 0, so
the imported table repeats that entry.
"""

from torch import Tensor

from model.config import HSTUConfig
from model.importers.imported import Imported
from model.importers.options import ImportOptions
from model.importers.weights import ForeignWeights
from model.presets import genrec

_ITEMS = "item_embedding.weight"
_TIMES = "temporal_bias.temporal_attention_bias.weight"
_POSITIONS = "position_bias.relative_attention_bias.weight"


def read(weights: ForeignWeights, options: ImportOptions) -> Imported:
    """
    Raises:
        ImportFailed: a tensor is missing, left over or of an impossible shape.
    """
    num_items, width = weights.shape(_ITEMS)
    heads = weights.shape(f"layers.0.{_TIMES}")[1]
    max_length = 50 if options.length is None else options.length
    config = genrec(
        num_items - 1,
        max_length=max_length,
        d_model=width,
        num_layers=weights.count("layers."),
        num_heads=heads,
        qk_dim=width // heads,
        v_dim=width // heads,
    )
    tensors = {"items.weight": weights.take(_ITEMS, num_items, width)[1:]}
    tensors |= weights.linear("final_norm", "final_norm", width)
    for index in range(config.num_layers):
        tensors |= _layer(weights, f"layers.{index}.", config)
    weights.finish()
    return Imported(config, tensors, [str(index) for index in range(1, num_items)])


def _layer(weights: ForeignWeights, at: str, config: HSTUConfig) -> dict[str, Tensor]:
    width, hidden, heads = config.d_model, config.ffn_multiple * config.d_model, config.num_heads
    num_times = config.time_bias.num_buckets + 1 if config.time_bias else 0
    num_positions, _ = weights.shape(f"{at}{_POSITIONS}")
    nearest = weights.take(f"{at}{_POSITIONS}", num_positions, heads)[0]
    return {
        f"{at}uvqk": weights.take(f"{at}projection.weight", 4 * width, width).T,
        f"{at}uvqk_bias": weights.take(f"{at}projection.bias", 4 * width),
        f"{at}bias.position": nearest.unsqueeze(1).expand(-1, config.max_distance),
        f"{at}bias.time": weights.take(f"{at}{_TIMES}", num_times, heads).T,
        **weights.linear(f"{at}attn_norm", f"{at}attention_norm", width),
        **weights.linear(f"{at}ffn_norm", f"{at}ffn.norm", width),
        **weights.linear(f"{at}ffn.0", f"{at}ffn.expand", hidden, width),
        **weights.linear(f"{at}ffn.3", f"{at}ffn.contract", width, hidden),
    }
