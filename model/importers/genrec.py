"""Owns importing genrec's HSTU (`genrec/models/hstu.py`).

Row 0 of its item table is padding. Its position buckets put every causal pair into bucket 0, so
the imported table repeats that entry.
"""

from model.importers.imported import Imported, ImportOptions
from model.importers.source import ForeignWeights
from model.presets import genrec

_ITEMS = "item_embedding.weight"
_TIMES = "temporal_bias.temporal_attention_bias.weight"
_POSITIONS = "position_bias.relative_attention_bias.weight"
_FFN = {"norm": "ffn_norm", "expand": "ffn.0", "contract": "ffn.3"}


def read(weights: ForeignWeights, options: ImportOptions) -> Imported:
    """
    Raises:
        ImportFailed: a tensor is missing, left over or of an impossible shape.
    """
    num_items, width = weights.shape(_ITEMS)
    heads = weights.shape(f"layers.0.{_TIMES}")[1]
    max_length = 50 if options.max_length is None else options.max_length
    config = genrec(
        num_items - 1,
        max_length=max_length,
        d_model=width,
        num_layers=weights.count("layers."),
        num_heads=heads,
        qk_dim=width // heads,
        v_dim=width // heads,
    )
    tensors = {"items.weight": weights.take(_ITEMS)[1:]} | weights.linear(
        "final_norm", "final_norm"
    )
    for index in range(config.num_layers):
        at = f"layers.{index}."
        tensors[f"{at}uvqk"] = weights.take(f"{at}projection.weight").T
        tensors[f"{at}uvqk_bias"] = weights.take(f"{at}projection.bias")
        tensors |= weights.linear(f"{at}attn_norm", f"{at}attention_norm")
        for target, source in _FFN.items():
            tensors |= weights.linear(f"{at}{source}", f"{at}ffn.{target}")
        nearest = weights.take(f"{at}{_POSITIONS}")[0]
        tensors[f"{at}bias.position"] = nearest.unsqueeze(1).expand(-1, config.max_distance)
        tensors[f"{at}bias.time"] = weights.take(f"{at}{_TIMES}").T
    weights.finish()
    return Imported(config, tensors, [str(index) for index in range(1, num_items)])
