"""Owns which stack runs a network: the fastest that is here and that can."""

from importlib.util import find_spec

import torch

from model.kernels.native.stack import NativeStack
from model.kernels.stack import LayerStack
from model.kernels.tensor_stack import TensorStack
from model.network.hstu import HSTU


def fastest_stack(network: HSTU, dtype: torch.dtype) -> LayerStack:
    return _triton_stack(network, dtype) or NativeStack.of(network, dtype) or TensorStack(network)


def _triton_stack(network: HSTU, dtype: torch.dtype) -> LayerStack | None:
    """None without a GPU: Triton comes with torch's builds for them, and is slow to import."""
    if network.items.weight.device.type != "cuda" or find_spec("triton") is None:
        return None
    from model.kernels.triton.stack import TritonStack

    return TritonStack.of(network, dtype)
