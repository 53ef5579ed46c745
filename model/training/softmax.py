"""Owns the full-softmax cross-entropy over the catalogue in chunks of rows.

Never holds the (T, items) logits: each chunk's gradient is made while its logits are in cache, so
a step is three matrix products and no memory that grows with the batch.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

_CHUNK_FLOATS = 1 << 18
"""Logits held at once: what fits the cache of a core."""

_GPU_SCALE = 32
"""How many more on a GPU, where starting an operation costs more than its memory."""


class _ChunkedCrossEntropy(Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        items: Tensor,
        repeat: Tensor | None,
        targets: Tensor,
        seen: Tensor,
        dtype: torch.dtype,
    ) -> Tensor:
        """The products run in `dtype`; sums and the softmax in that of the queries."""
        dqueries, ditems = torch.empty_like(queries), torch.zeros_like(items)
        low_items = items.to(dtype)
        total = queries.new_zeros(())
        drepeat = None if repeat is None else torch.zeros_like(repeat)
        rows = _chunk_rows(queries, len(items))
        columns = (queries, targets, seen, dqueries)
        for query, target, known, dquery in zip(*(c.split(rows) for c in columns), strict=True):
            low_query = query.to(dtype)
            logits = (low_query @ low_items.T).to(query.dtype)
            target = target.unsqueeze(1)
            picked = logits.gather(1, target)
            if repeat is None and known.numel():
                # A spared target is a target all the same.
                logits.scatter_(1, known, -torch.inf).scatter_(1, target, picked)
            most = logits.amax(1, keepdim=True)
            probabilities = logits.sub_(most).exp_()
            sums = probabilities.sum(1, keepdim=True)
            probabilities.div_(sums)
            total += (most + sums.log() - picked).sum()
            if repeat is not None and drepeat is not None:
                loss, slope = _of_repeats(probabilities, target, known, repeat)
                total += loss
                drepeat += slope
            # d loss / d logits = softmax - one-hot
            probabilities.scatter_add_(1, target, torch.full_like(picked, -1))
            low = probabilities.to(dtype)
            dquery.copy_(low @ low_items)
            ditems += low.T @ low_query
        ctx.save_for_backward(dqueries, ditems, drepeat)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        dqueries, ditems, drepeat = ctx.saved_tensors
        of_repeat = None if drepeat is None else grad * drepeat
        return grad * dqueries, grad * ditems, of_repeat, None, None, None


def _chunk_rows(rows: Tensor, floats_per_row: int) -> int:
    scale = 1 if rows.device.type == "cpu" else _GPU_SCALE
    return max(1, _CHUNK_FLOATS * scale // floats_per_row)


def _of_repeats(
    probabilities: Tensor, target: Tensor, seen: Tensor, repeat: Tensor
) -> tuple[Tensor, Tensor]:
    """What adding `repeat` to the logits of what is seen adds to the loss, and its derivative.

    Args:
        probabilities: (T, items) without it
        target: (T, 1)
        seen: (T, S)
        repeat: ()
    """
    seen = seen.sort(1).values
    is_first = seen.diff(dim=1, prepend=torch.full_like(target, -1)) > 0
    # Something is left to what is not seen, so that no logarithm is of nothing.
    most = 1 - torch.finfo(probabilities.dtype).eps
    mass = (probabilities.gather(1, seen) * is_first).sum(1).clamp(max=most)
    is_repeat = (seen == target).any(1).to(mass)
    grown = torch.log1p(torch.expm1(repeat) * mass)  # of the sum of exponentials
    loss = grown - repeat * is_repeat
    return loss.sum(), (mass * torch.exp(repeat - grown) - is_repeat).sum()


def full_softmax_loss(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    seen: Tensor | None = None,
    repeat: Tensor | None = None,
) -> Tensor:
    """Sum of the cross-entropies of `queries @ items.T` against `targets`, in nats.

    Under autocast, the products run in its precision.

    Args:
        queries: (T, D), scaled by the temperature already
        items: (items, D)
        targets: (T,) int64 item indices
        seen: (T, S) int64, items of a row that are another case than the rest, in any order and as
            often as may be
        repeat: () added to their logits. It learns from the rest, and the rest not from it: queries
            and items have the gradients that they have without it. None: a row's target does not
            compete with them, and is a target all the same if it is one of them
    """
    if seen is None:
        seen = targets.new_empty(len(targets), 0)
    kind = queries.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else queries.dtype
    with torch.autocast(kind, enabled=False):
        loss: Tensor = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
            queries, items, repeat, targets, seen, dtype
        )
    return loss


def sampled_softmax_loss(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    num_negatives: int,
    spared: Tensor | None = None,
) -> Tensor:
    """As `full_softmax_loss`, with each row against its target and `num_negatives` other items.

    Negatives are drawn evenly from all items, with replacement; one that is the target or spared
    counts for nothing. Source: `SampledSoftmaxLoss` of the research code of arXiv 2402.17152.
    """
    negatives = torch.randint(len(items), (len(targets), num_negatives), device=items.device)
    total = queries.new_zeros(())
    if spared is None:
        spared = targets.new_empty(len(targets), 0)
    rows = _chunk_rows(queries, num_negatives * max(items.shape[1], spared.shape[1]))
    columns = (queries, targets, negatives, spared)
    for query, target, others, spare in zip(*(c.split(rows) for c in columns), strict=True):
        picked = (query * items[target]).sum(1, keepdim=True)
        logits = torch.einsum("td,tnd->tn", query, items[others])
        void = (others == target.unsqueeze(1)) | (others[:, :, None] == spare[:, None]).any(2)
        logits = logits.masked_fill(void, -torch.inf)
        total = total + (torch.cat((picked, logits), 1).logsumexp(1) - picked.squeeze(1)).sum()
    return total
