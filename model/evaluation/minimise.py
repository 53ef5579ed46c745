"""Owns minimising a smooth loss over all data at once. Never draws random numbers."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def minimise(loss: Callable[[], Tensor], parameters: Sequence[Tensor], max_steps: int) -> None:
    """L-BFGS, in place, until it stands still."""
    optimizer = torch.optim.LBFGS(
        list(parameters), max_iter=max_steps, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        found = loss()
        found.backward()
        return found

    optimizer.step(closure)
