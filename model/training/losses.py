"""Owns the training losses: full softmax for retrieval, per-task losses for actions.

Never sees padding: rows are picked before the arithmetic.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from model.network.hstu import HSTU, Batch, Rows
from model.training.softmax import full_softmax_loss


def retrieval_loss(network: HSTU, batch: Batch, rows: Rows) -> Tensor:
    """Cross-entropy over the whole catalogue: event row i against the item of event i + 1."""
    real = batch.valid[:, 1:]
    head = network.retrieval
    queries = head.prepare(rows.events[real]) / network.config.temperature
    items = head.prepare(network.items.weight)
    return full_softmax_loss(queries, items, batch.items[:, 1:][real])


def action_loss(network: HSTU, batch: Batch, rows: Rows) -> Tensor:
    """Weighted mean over tasks; an event without an action, or with another task's, is skipped."""
    if rows.candidates is None:
        return rows.events.new_zeros(())
    real = batch.valid & (batch.actions > 0)
    logits = network.action_logits(rows.candidates[real])  # (T, actions)
    labels = batch.actions[real] - 1
    total, weight, first = logits.new_zeros(()), 0.0, 0
    for task in network.config.tasks:
        size = len(task.actions)
        inside = (labels >= first) & (labels < first + size)
        if bool(inside.any()):
            part, label = logits[inside, first : first + size], labels[inside] - first
            loss = (
                F.cross_entropy(part, label)
                if task.kind == "multiclass"
                else F.binary_cross_entropy_with_logits(part, F.one_hot(label, size).float())
            )
            total, weight = total + task.weight * loss, weight + task.weight
        first += size
    mean: Tensor = total / max(weight, torch.finfo(torch.float32).tiny)
    return mean
