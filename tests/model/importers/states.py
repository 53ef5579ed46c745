"""Owns tiny state dicts in every importer's format, without the packages that write them.

Names and shapes only; that numbers end up in the right place is shown by the parity tests.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from model.importers.options import ImportOptions

FIXTURES = Path(__file__).parents[2] / "fixtures"
NUM_ITEMS = 9
LENGTH = 6
WIDTH = 8

OPTIONS = {
    "meta": ImportOptions(heads=2),
    "rectools": ImportOptions(heads=2),
    "rechub": ImportOptions(),
    "genrec": ImportOptions(length=LENGTH),
}

_RECTOOLS_BLOCK = {
    "rel_attn.time_weights": (129,),
    "rel_attn.pos_weights": (2 * LENGTH - 1,),
    "uvqk_proj": (WIDTH, 4 * WIDTH),
    "output_mlp.weight": (WIDTH, WIDTH),
    "output_mlp.bias": (WIDTH,),
    "norm_input.weight": (WIDTH,),
    "norm_input.bias": (WIDTH,),
    "norm_attn_output.weight": (WIDTH,),
    "norm_attn_output.bias": (WIDTH,),
}
_RECHUB_LAYER = {  # two heads, dqk 3, dv 5
    "norm_in.weight": (WIDTH,),
    "norm_in.bias": (WIDTH,),
    "proj1.weight": (32, WIDTH),
    "proj1.bias": (32,),
    "rab.pos_w": (2 * LENGTH - 1, 2),
    "rab.ts_w": (21, 2),
    "norm_attn.weight": (10,),
    "norm_attn.bias": (10,),
    "proj2.weight": (WIDTH, 10),
    "proj2.bias": (WIDTH,),
}


def state(name: str) -> dict[str, Tensor]:
    """A state dict of the format `name`."""
    if name in ("meta", "genrec"):
        tensors = load_file(FIXTURES / f"{name}_hstu_tiny.safetensors")
        return {k.removeprefix("weights."): t for k, t in tensors.items() if "weights." in k}
    if name == "rectools":
        shapes: dict[str, tuple[int, ...]] = {
            "item_model.item_net_blocks.0.ids_emb.weight": (NUM_ITEMS + 1, WIDTH),
            "pos_encoding_layer.pos_emb.weight": (LENGTH, WIDTH),
        }
        layers, parts = "transformer_layers.stu_blocks", _RECTOOLS_BLOCK
    else:
        shapes = {
            "token_embedding.weight": (NUM_ITEMS + 1, WIDTH),
            "position_embedding.weight": (LENGTH, WIDTH),
            "time_embedding.weight": (20, WIDTH),
        }
        layers, parts = "hstu_block.layers", _RECHUB_LAYER
    for layer in range(2):
        shapes |= {f"{layers}.{layer}.{part}": shape for part, shape in parts.items()}
    generator = torch.Generator().manual_seed(0)
    return {key: 0.4 * torch.randn(shape, generator=generator) for key, shape in shapes.items()}


def optional(name: str) -> set[str]:
    """Tensors that may be absent: what the source can be built without, or does not learn."""
    return {
        "meta": {"_attn_mask"},
        "rectools": {"pos_encoding_layer.pos_emb.weight"},
        "rechub": {"time_embedding.weight"},
        "genrec": set(),
    }[name]
