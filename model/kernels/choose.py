"""Owns which stack runs a network: the fastest that is here and that can."""

from model.kernels.native.stack import NativeStack
from model.kernels.stack import LayerStack
from model.kernels.tensor_stack import TensorStack
from model.network.hstu import HSTU


def fastest_stack(network: HSTU) -> LayerStack:
    return NativeStack.of(network) or TensorStack(network)
