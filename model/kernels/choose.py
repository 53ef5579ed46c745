"""Owns which stack runs a network: the fastest that is here and that can."""

from importlib.util import find_spec

from model.kernels.native.stack import NativeStack
from model.kernels.stack import LayerStack
from model.kernels.tensor_stack import TensorStack
from model.network.hstu import HSTU


def fastest_stack(network: HSTU) -> LayerStack:
    return _triton_stack(network) or NativeStack.of(network) or TensorStack(network)


def _triton_stack(network: HSTU) -> LayerStack | None:
    """Triton comes with the CUDA builds of torch, and takes a while to import."""
    if network.items.weight.device.type != "cuda" or find_spec("triton") is None:
        return None
    from model.kernels.triton.stack import TritonStack

    return TritonStack.of(network)
