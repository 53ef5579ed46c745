"""Owns capturing what a pass does on the GPU, as a CUDA graph.

Never knows what is captured, or when.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import torch
from torch import Tensor

_WARM_UPS: Final = 3
"""What kernels are compiled for and libraries allocate comes before a capture, which forbids it."""


class Capture(Protocol):
    def __call__(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """A way to do again what `run` does, with what its tensors hold then, and its result, which
        that overwrites. `run` is called several times, and must not wait for the device.

        Raises whatever says that it can not be captured.
        """
        ...


class CudaCapture:
    """As "Whole-network capture" in torch's notes on CUDA. No other thread may use the GPU.

    All graphs share their memory for what is in between. That is for graphs that run one after
    another, where nobody reads what one left there, but its result, when the next has begun.
    """

    def __init__(self) -> None:
        self._memory = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        current, side = torch.cuda.current_stream(), torch.cuda.Stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                run()
        current.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # A capture that fails would leave its own stream the current one.
        with torch.cuda.stream(current), torch.cuda.graph(graph, pool=self._memory):
            result = run()
        return graph.replay, result
