"""Owns the baselines of a request's scores: full forwards, one candidate at a time or many.

Every forward costs the same, so a part of the candidates tells what all of them cost.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from service.benchmark.engine.full_forward import FullForward


@dataclass(frozen=True, slots=True)
class Baseline:
    """Milliseconds for all candidates of a request."""

    median_ms: float
    batch: int  # candidates in one full forward
    num_timed: int  # candidates that were timed; the figure is scaled from them to all


class Baselines:
    """The contenders `loop` and `batched`; one whose single forward is too much is left out."""

    def __init__(self, full: FullForward, candidates: Tensor, *, max_operations: float) -> None:
        """A turn has about `max_operations` at most."""
        self._num_candidates = len(candidates)
        self._parts: dict[str, list[Tensor]] = {}
        for name, batch in (("loop", 1), ("batched", full.batch)):
            num_forwards = int(max_operations / (batch * full.num_operations))
            if num_forwards:
                self._parts[name] = list(candidates.split(batch))[:num_forwards]
        self.contenders: dict[str, Callable[[], Tensor]] = {
            name: partial(_scores, full, parts) for name, parts in self._parts.items()
        }
        """Each gives the action logits of the first candidates, those that are timed."""

    def found(self, median_ms: Mapping[str, float]) -> dict[str, Baseline]:
        """From the medians of the contenders."""
        found = {}
        for name, parts in self._parts.items():
            num_timed = sum(map(len, parts))
            scaled_ms = median_ms[name] * self._num_candidates / num_timed
            found[name] = Baseline(scaled_ms, len(parts[0]), num_timed)
        return found


def _scores(full: FullForward, parts: list[Tensor]) -> Tensor:
    return torch.cat([full.score(part) for part in parts])
