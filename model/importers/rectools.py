"""Owns importing RecTools' HSTU: the state dict of `model.lightning_model.torch_model`.

Row 0 of its item table is padding. Its position weights run from the far past to the far future;
the causal half is used, the nearest last. Its absolute positions count from the newest event, as
`positions: end` does. Either relative bias, and the absolute positions, may be switched off.
"""

from typing import Any

from model.importers.imported import Imported
from model.importers.options import ImportOptions
from model.importers.weights import ForeignWeights, ImportFailed
from model.presets import rectools

_WRAPPER = "torch_model."
_ITEMS = "item_model.item_net_blocks.0.ids_emb.weight"
_POSITIONS = "pos_encoding_layer.pos_emb.weight"
_LAYERS = "transformer_layers.stu_blocks."
_DISTANCE = "rel_attn.pos_weights"
_TIMES = "rel_attn.time_weights"


def read(weights: ForeignWeights, options: ImportOptions) -> Imported:
    """
    Raises:
        ImportFailed: a tensor is missing, left over or of an impossible shape, or a number is
            needed that the weights do not tell.
    """
    weights.strip(_WRAPPER)
    num_rows, width = weights.shape(_ITEMS)
    heads = _heads(width, options)
    length = _length(weights, options)
    absolute = _POSITIONS in weights
    by_distance, by_time = (f"{_LAYERS}0.{name}" in weights for name in (_DISTANCE, _TIMES))
    absent: dict[str, Any] = {} if absolute else {"positions": "none", "max_positions": 0}
    if not by_time:
        absent["time_bias"] = None
    config = rectools(
        num_rows - 1,
        max_length=length,
        max_distance=length if by_distance else 0,
        d_model=width,
        num_layers=weights.count(_LAYERS),
        num_heads=heads,
        qk_dim=width // heads,
        v_dim=width // heads,
        item_scale=options.item_scale or "sqrt_d",
        similarity=options.similarity or "cosine",
        temperature=0.05 if options.temperature is None else options.temperature,
        **absent,
    )
    tensors = {"items.weight": weights.take(_ITEMS, num_rows, width)[1:]}
    if absolute:
        tensors["positions.weight"] = weights.take(_POSITIONS, length, width)
    for index in range(config.num_layers):
        source, target = f"{_LAYERS}{index}.", f"layers.{index}."
        tensors[f"{target}uvqk"] = weights.take(f"{source}uvqk_proj", width, 4 * width)
        tensors |= weights.linear(f"{source}norm_input", f"{target}in_norm", width)
        tensors |= weights.linear(f"{source}norm_attn_output", f"{target}attention_norm", width)
        tensors |= weights.linear(f"{source}output_mlp", f"{target}out", width, width)
        if by_distance:
            nearest_last = weights.take(source + _DISTANCE, 2 * length - 1)[:length]
            tensors[f"{target}bias.position"] = nearest_last.flip(0).unsqueeze(0)
        if config.time_bias is not None:
            buckets = weights.take(source + _TIMES, config.time_bias.num_buckets + 1)
            tensors[f"{target}bias.time"] = buckets.unsqueeze(0)
    weights.finish()
    return Imported(config, tensors, [str(index) for index in range(1, num_rows)])


def _heads(width: int, options: ImportOptions) -> int:
    heads = options.heads
    if heads is None:
        raise ImportFailed("--heads is needed: the weights do not tell the number of heads")
    if width % heads:
        raise ImportFailed(f"--heads {heads} does not divide the width {width}")
    return heads


def _length(weights: ForeignWeights, options: ImportOptions) -> int:
    """`session_max_len`: the divisor, the window, and the size of whichever tables there are."""
    distance, asked = f"{_LAYERS}0.{_DISTANCE}", options.length
    if _POSITIONS in weights:
        told = weights.shape(_POSITIONS)[0]
    elif distance in weights:
        told = (weights.shape(distance, 1)[0] + 1) // 2
    elif asked is None:
        raise ImportFailed("--length is needed: without positions the weights do not tell it")
    else:
        told = asked
    if asked not in (None, told):
        raise ImportFailed(f"--length {asked} is not the {told} that the weights are made for")
    return told
