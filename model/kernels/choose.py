"""Owns which stack runs a network: the fastest that is here and that can."""

import torch

from model.kernels.native.stack import NativeStack
from model.kernels.stack import LayerStack
from model.kernels.tensor_stack import TensorStack
from model.network.hstu import HSTU


def fastest_stack(network: HSTU, dtype: torch.dtype) -> LayerStack:
    return NativeStack.of(network, dtype) or TensorStack(network)
