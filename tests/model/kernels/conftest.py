"""Owns the stacks that can run here, by name."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from model.kernels.native.build import MACHINES
from model.kernels.native.records import load
from model.kernels.native.stack import NativeStack
from model.kernels.stack import LayerStack
from model.kernels.tensor_stack import TensorStack
from model.network.hstu import HSTU

MakeStack = Callable[[HSTU, torch.dtype], LayerStack]


@pytest.fixture(params=["tensor", *MACHINES])
def make_stack(request: pytest.FixtureRequest) -> MakeStack:
    """Each way to run the layers that this machine has."""
    name: str = request.param
    if name == "tensor":
        return TensorStack
    if name != "generic" and name > torch.backends.cpu.get_cpu_capability().lower():
        pytest.skip(f"this processor does not run {name}")
    lib = load(name)
    if lib is None:
        pytest.skip("no compiled stack of these sources: with a C++ compiler, install mfalcon anew")
    return partial(NativeStack, instructions=name, lib=lib)


@pytest.fixture(params=["tensor", "avx512"])
def make_narrow_stack(request: pytest.FixtureRequest) -> MakeStack:
    """Those that hold K and V in bfloat16, and multiply it where the processor does."""
    if request.param == "tensor":
        return TensorStack
    lib = load("avx512")
    if lib is None or not lib.mfalcon_has_bfloat16():
        pytest.skip("no compiled stack, or a processor without products in bfloat16")
    return partial(NativeStack, instructions="avx512", lib=lib)
