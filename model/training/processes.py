"""Owns the processes that share one run: which this one is, and what they exchange.

Never decides what is trained: a step is cut into parts whatever the number of processes, each takes
its share of the parts, and gradients are summed. Started by `torchrun`, or alone.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")
_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among those of the run."""

    rank: int = 0
    count: int = 1
    device: torch.device = _CPU

    @property
    def leads(self) -> bool:
        """Whether it is the one that validates, writes and reports."""
        return self.rank == 0

    def share(self, parts: Sequence[T]) -> list[tuple[int, T]]:
        """This process's parts, with their place among all."""
        return list(enumerate(parts))[self.rank :: self.count]

    def sum_gradients(self, module: nn.Module) -> None:
        """Add up gradients over the processes, in one exchange; one without any counts as zero."""
        if self.count == 1:
            return
        parameters = list(module.parameters())
        used = self.sum(
            torch.tensor([p.grad is not None for p in parameters], device=self.device).float()
        )
        touched = [p for p, number in zip(parameters, used.tolist(), strict=True) if number]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in touched]
        flat = self.sum(torch.cat([gradient.flatten() for gradient in gradients]))
        sizes = [parameter.numel() for parameter in touched]
        for parameter, summed in zip(touched, flat.split(sizes), strict=True):
            parameter.grad = summed.view_as(parameter)

    def sum(self, tensor: Tensor) -> Tensor:
        """Over the processes; every one of them must call it."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def agree(self, value: float) -> float:
        """The leading process's value, in all of them; waits for it."""
        if self.count == 1:
            return value
        box = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.broadcast(box, src=0)
        return float(box)


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Join the processes that `torchrun` started, if it did.

    Args:
        device: cpu, cuda, or auto: the GPU where there is one
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(device=torch.device(device))
        return
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group("gloo" if device == "cpu" else "nccl")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), torch.device(device))
    finally:
        dist.destroy_process_group()
