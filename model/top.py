"""Owns putting scores in order: best first, ties by their place.

Never computes scores.
"""

import torch
from torch import Tensor


def top(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Places (k,) int64 of the k best of `scores`, and these; `topk` alone leaves ties in any
    order."""
    among = torch.empty(0, dtype=torch.int64, device=scores.device)
    if k:
        among = (scores >= scores.topk(k).values[-1]).nonzero().flatten()
    places, best = in_order(scores, among)
    return places[:k], best[:k]


def in_order(scores: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """The places (M,), best first and ties in the order given, and their scores (M,)."""
    best, order = scores.take(places).sort(descending=True, stable=True)
    return places.take(order), best
