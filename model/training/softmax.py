"""Owns the full-softmax cross-entropy over the catalogue in chunks of rows.

Never holds the (T, items) logits: each chunk's gradient is made while its logits are in cache, so
a step is three matrix products and no memory that grows with the batch.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

_CHUNK_FLOATS = 1 << 21
"""Logits held at once."""


class _ChunkedCrossEntropy(Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, items: Tensor, targets: Tensor) -> Tensor:
        dqueries, ditems = torch.empty_like(queries), torch.zeros_like(items)
        total = queries.new_zeros(())
        rows = max(1, _CHUNK_FLOATS // len(items))
        chunks = zip(queries.split(rows), targets.split(rows), dqueries.split(rows), strict=True)
        for query, target, dquery in chunks:
            logits = query @ items.T
            target = target.unsqueeze(1)
            picked = logits.gather(1, target)
            normaliser = logits.logsumexp(1, keepdim=True)
            total += (normaliser - picked).sum()
            # d loss / d logits = softmax - one-hot
            probabilities = logits.sub_(normaliser).exp_()
            probabilities.scatter_add_(1, target, torch.full_like(picked, -1))
            torch.mm(probabilities, items, out=dquery)
            ditems.addmm_(probabilities.T, query)
        count = max(1, len(queries))
        ctx.save_for_backward(dqueries.div_(count), ditems.div_(count))
        return total / count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        dqueries, ditems = ctx.saved_tensors
        return grad * dqueries, grad * ditems, None


def full_softmax_loss(queries: Tensor, items: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of `queries @ items.T` against `targets`, in nats.

    Args:
        queries: (T, D), scaled by the temperature already
        items: (items, D)
        targets: (T,) int64 item indices
    """
    loss: Tensor = _ChunkedCrossEntropy.apply(queries, items, targets)  # type: ignore[no-untyped-call]
    return loss
