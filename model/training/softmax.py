"""Owns the full-softmax cross-entropy over the catalogue in chunks of rows.

Never holds the (T, items) logits: each chunk's gradient is made while its logits are in cache, so
a step is three matrix products and no memory that grows with the batch.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

_CHUNK_FLOATS = 1 << 21
"""Logits held at once."""


class _ChunkedCrossEntropy(Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        items: Tensor,
        targets: Tensor,
        seen: Tensor,
        seen_weight: float,
        dtype: torch.dtype,
    ) -> Tensor:
        """The products run in `dtype`; sums and the softmax in that of the queries."""
        dqueries, ditems = torch.empty_like(queries), torch.zeros_like(items)
        low_items = items.to(dtype)
        total = queries.new_zeros(())
        rows = max(1, _CHUNK_FLOATS // len(items))
        columns = (queries, targets, seen, dqueries)
        for query, target, known, dquery in zip(*(c.split(rows) for c in columns), strict=True):
            low_query = query.to(dtype)
            logits = (low_query @ low_items.T).to(query.dtype)
            target = target.unsqueeze(1)
            picked = logits.gather(1, target)
            if known.numel():
                weighed = logits.gather(1, known) + _log(seen_weight)
                # A target that was seen is a target all the same.
                logits.scatter_(1, known, weighed).scatter_(1, target, picked)
            normaliser = logits.logsumexp(1, keepdim=True)
            total += (normaliser - picked).sum()
            # d loss / d logits = softmax - one-hot
            probabilities = logits.sub_(normaliser).exp_()
            probabilities.scatter_add_(1, target, torch.full_like(picked, -1))
            low = probabilities.to(dtype)
            dquery.copy_(low @ low_items)
            ditems += low.T @ low_query
        ctx.save_for_backward(dqueries, ditems)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        dqueries, ditems = ctx.saved_tensors
        return grad * dqueries, grad * ditems, None, None, None, None


def full_softmax_loss(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    seen: Tensor | None = None,
    seen_weight: float = 1.0,
) -> Tensor:
    """Sum of the cross-entropies of `queries @ items.T` against `targets`, in nats.

    Under autocast, the products run in its precision.

    Args:
        queries: (T, D), scaled by the temperature already
        items: (items, D)
        targets: (T,) int64 item indices
        seen: (T, S) int64, items of a row with a weight of their own, in any order and as often as
            may be; the target itself stands for nothing
        seen_weight: of each of those among what the target competes with; others have 1
    """
    if seen is None:
        seen = targets.new_empty(len(targets), 0)
    kind = queries.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else queries.dtype
    with torch.autocast(kind, enabled=False):
        loss: Tensor = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
            queries, items, targets, seen, seen_weight, dtype
        )
    return loss


def sampled_softmax_loss(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    num_negatives: int,
    seen: Tensor | None = None,
    seen_weight: float = 1.0,
) -> Tensor:
    """As `full_softmax_loss`, with each row against its target and `num_negatives` other items.

    Negatives are drawn evenly from all items, with replacement; one that is the target counts for
    nothing. Source: `SampledSoftmaxLoss` of the research code of arXiv 2402.17152.
    """
    negatives = torch.randint(len(items), (len(targets), num_negatives), device=items.device)
    total = queries.new_zeros(())
    if seen is None:
        seen = targets.new_empty(len(targets), 0)
    rows = max(1, _CHUNK_FLOATS // (num_negatives * max(items.shape[1], seen.shape[1])))
    columns = (queries, targets, negatives, seen)
    for query, target, others, known in zip(*(c.split(rows) for c in columns), strict=True):
        picked = (query * items[target]).sum(1, keepdim=True)
        logits = torch.einsum("td,tnd->tn", query, items[others])
        is_known = (others[:, :, None] == known[:, None]).any(2)
        logits = torch.where(is_known, logits + _log(seen_weight), logits)
        logits = logits.masked_fill(others == target.unsqueeze(1), -torch.inf)
        total = total + (torch.cat((picked, logits), 1).logsumexp(1) - picked.squeeze(1)).sum()
    return total


def _log(weight: float) -> float:
    return math.log(weight) if weight > 0 else -math.inf
