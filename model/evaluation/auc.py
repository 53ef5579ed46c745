"""Owns the area under the ROC curve: the chance that what happened was rated above what did not."""

import torch
from torch import Tensor


def auc_terms(scores: Tensor, happened: Tensor) -> Tensor | None:
    """(N,) float64 whose mean is the area, ties counted half; None if only one outcome is there.

    Their spread is that of the area (DeLong's): the difference of two areas over the same events is
    as uncertain as the mean of their terms' differences.
    """
    share = happened.double().mean()
    if share in (0, 1):
        return None
    # Among those of the other outcome: how many come below, ties counted half.
    below = _middle_ranks(scores)
    for outcome in (happened, ~happened):
        below[outcome] -= _middle_ranks(scores[outcome])
    num_positive, num_negative = happened.sum(), (~happened).sum()
    right = torch.where(happened, below / num_negative, 1 - below / num_positive)
    area = right[happened].mean()
    return area + (right - area) / torch.where(happened, share, 1 - share)


def _middle_ranks(scores: Tensor) -> Tensor:
    """From 1; equals share the mean of theirs."""
    _, group, sizes = scores.unique(return_inverse=True, return_counts=True)
    middle: Tensor = sizes.cumsum(0) - (sizes.double() - 1) / 2
    return middle[group]
