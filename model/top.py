"""Owns putting scores in order: best first, ties by their place.

Never computes scores.
"""

from torch import Tensor


def top(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Places (k,) int64 of the k best of `scores` (N,), and these."""
    best, places = scores.topk(min(k + 1, len(scores)))
    if 0 < k < len(best) and best[k - 1] == best[k]:
        # Of those that tie for the last place `topk` takes any.
        places = (scores >= best[k]).nonzero().flatten()
    else:
        places = places[:k].sort().values
    places, best = in_order(scores, places)
    return places[:k], best[:k]


def in_order(scores: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """The places (M,), best first and ties in the order given, and their scores (M,)."""
    best, order = scores.take(places).sort(descending=True, stable=True)
    return places.take(order), best
