"""Owns the layers that the stack runs: copies of the network's, in what is multiplied.

Nobody else can move these: a captured pass has their addresses.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from model.network.hstu import HSTU
from model.network.layer import HSTULayer


def own_layers(network: HSTU, dtype: torch.dtype) -> list[HSTULayer]:
    """In bfloat16 the weights of products are cast here, once. Autocast would cast those of a
    frozen network in every pass, and leaves what it multiplies alone if it is bfloat16 already."""
    layers = [deepcopy(block) for block in network.blocks]
    if dtype == torch.bfloat16:
        for layer in layers:
            layer.uvqk = nn.Parameter(layer.uvqk.bfloat16(), requires_grad=False)
            for module in layer.modules():
                if isinstance(module, nn.Linear):
                    module.bfloat16()
    return layers
