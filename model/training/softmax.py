"""Owns the full-softmax cross-entropy over the catalogue in chunks of rows.

Never holds the (T, items) logits: each chunk's gradient is made while its logits are in cache, so
a step is three matrix products and no memory that grows with the batch.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

_CHUNK_FLOATS = 1 << 21
"""Logits held at once."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the rows' histories hold, and what becomes of it in the softmax."""

    items: Tensor  # (T, S) int64, a row's in any order and as often as may be
    logit: Tensor | None  # () added to the logits of a row's; None: nothing
    is_spared: bool  # a row's target does not compete with them; itself it is a target all the same


class _ChunkedCrossEntropy(Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        items: Tensor,
        seen_logit: Tensor,
        targets: Tensor,
        seen: Tensor,
        is_spared: bool,
        dtype: torch.dtype,
    ) -> Tensor:
        """The products run in `dtype`; sums and the softmax in that of the queries."""
        dqueries, ditems = torch.empty_like(queries), torch.zeros_like(items)
        low_items = items.to(dtype)
        total, dseen = queries.new_zeros(()), torch.zeros_like(seen_logit)
        rows = max(1, _CHUNK_FLOATS // len(items))
        seen = seen.sort(1).values
        firsts = seen.diff(dim=1, prepend=torch.full_like(targets, -1).unsqueeze(1)) > 0
        columns = (queries, targets, seen, firsts, dqueries)
        chunks = zip(*(column.split(rows) for column in columns), strict=True)
        for query, target, known, is_first, dquery in chunks:
            low_query = query.to(dtype)
            logits = (low_query @ low_items.T).to(query.dtype)
            target = target.unsqueeze(1)
            logits.scatter_(1, known, logits.gather(1, known) + seen_logit)
            picked = logits.gather(1, target)
            if is_spared:
                logits.scatter_(1, known, -torch.inf).scatter_(1, target, picked)
            normaliser = logits.logsumexp(1, keepdim=True)
            total += (normaliser - picked).sum()
            # d loss / d logits = softmax - one-hot
            probabilities = logits.sub_(normaliser).exp_()
            probabilities.scatter_add_(1, target, torch.full_like(picked, -1))
            dseen += probabilities.gather(1, known)[is_first].sum()
            low = probabilities.to(dtype)
            dquery.copy_(low @ low_items)
            ditems += low.T @ low_query
        ctx.save_for_backward(dqueries, ditems, dseen)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        dqueries, ditems, dseen = ctx.saved_tensors
        return grad * dqueries, grad * ditems, grad * dseen, None, None, None, None


def full_softmax_loss(
    queries: Tensor, items: Tensor, targets: Tensor, seen: Seen | None = None
) -> Tensor:
    """Sum of the cross-entropies of `queries @ items.T` against `targets`, in nats.

    Under autocast, the products run in its precision.

    Args:
        queries: (T, D), scaled by the temperature already
        items: (items, D)
        targets: (T,) int64 item indices
        seen: None: no item is another case than the rest
    """
    seen = seen or _nothing(targets)
    logit = queries.new_zeros(()) if seen.logit is None else seen.logit
    kind = queries.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else queries.dtype
    with torch.autocast(kind, enabled=False):
        loss: Tensor = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
            queries, items, logit, targets, seen.items, seen.is_spared, dtype
        )
    return loss


def sampled_softmax_loss(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    num_negatives: int,
    seen: Seen | None = None,
) -> Tensor:
    """As `full_softmax_loss`, with each row against its target and `num_negatives` other items.

    Negatives are drawn evenly from all items, with replacement; one that is the target or spared
    counts for nothing. Source: `SampledSoftmaxLoss` of the research code of arXiv 2402.17152.
    """
    negatives = torch.randint(len(items), (len(targets), num_negatives), device=items.device)
    total = queries.new_zeros(())
    seen = seen or _nothing(targets)
    logit = queries.new_zeros(()) if seen.logit is None else seen.logit
    rows = max(1, _CHUNK_FLOATS // (num_negatives * max(items.shape[1], seen.items.shape[1])))
    columns = (queries, targets, negatives, seen.items)
    for query, target, others, known in zip(*(c.split(rows) for c in columns), strict=True):
        target, known = target.unsqueeze(1), known.unsqueeze(1)
        picked = (query * items[target.squeeze(1)]).sum(1, keepdim=True)
        picked = picked + logit * (target.unsqueeze(2) == known).any(2)
        is_known = (others.unsqueeze(2) == known).any(2)
        logits = torch.einsum("td,tnd->tn", query, items[others]) + logit * is_known
        void = (others == target) | (is_known & seen.is_spared)
        logits = logits.masked_fill(void, -torch.inf)
        total = total + (torch.cat((picked, logits), 1).logsumexp(1) - picked.squeeze(1)).sum()
    return total


def _nothing(targets: Tensor) -> Seen:
    return Seen(targets.new_empty(len(targets), 0), None, is_spared=False)
