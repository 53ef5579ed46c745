"""Owns the training objective: softmax for retrieval, per-task losses for actions.

Never sees padding: rows are picked before the arithmetic. Every sum is divided by the count of the
whole step, so a step cut into parts, or shared among processes, has the same loss and gradient.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import HSTUConfig
from model.network.batch import Batch
from model.network.hstu import HSTU, Rows
from model.training.softmax import full_softmax_loss, sampled_softmax_loss


@dataclass(frozen=True, slots=True)
class Counts:
    """What one step has to predict."""

    items: int
    actions: tuple[int, ...]  # per task


def count(config: HSTUConfig, batches: Sequence[Batch]) -> Counts:
    """Of all parts of one step together."""
    items = sum(int(batch.lengths.sum()) - len(batch.lengths) for batch in batches)
    labels = torch.cat([batch.actions[batch.valid] for batch in batches]) - 1
    tasks = [int(_of_task(labels, first, size).sum()) for first, size in _slots(config)]
    return Counts(items, tuple(tasks))


class Objective(nn.Module):
    """The loss of one part of a step, as one module: what is run, spread and differentiated."""

    def __init__(
        self,
        network: HSTU,
        *,
        loss: Literal["full", "sampled"] = "full",
        num_negatives: int = 128,
        negatives: Literal["all", "unseen"] = "all",
        action_weight: float = 0.5,
    ) -> None:
        super().__init__()
        self.network = network
        self._num_negatives = num_negatives if loss == "sampled" else None
        self._spares_seen = negatives == "unseen"
        self._action_weight = action_weight

    def forward(self, batch: Batch, counts: Counts, with_actions: bool) -> Tensor:
        """This part's share of the step's loss, in nats."""
        with_actions = with_actions and self._action_weight > 0
        rows = self.network(batch, with_candidates=with_actions)
        loss = retrieval_loss(
            self.network,
            batch,
            rows,
            counts,
            num_negatives=self._num_negatives,
            spares_seen=self._spares_seen,
        )
        if rows.candidates is None:
            return loss
        return loss + self._action_weight * action_loss(self.network, batch, rows, counts)


def retrieval_loss(
    network: HSTU,
    batch: Batch,
    rows: Rows,
    counts: Counts,
    *,
    num_negatives: int | None = None,
    spares_seen: bool = False,
) -> Tensor:
    """Cross-entropy of event row i against the item of event i + 1.

    Over the whole catalogue, or over the item and `num_negatives` others drawn evenly, for each
    row its own; with `spares_seen` not over those of events 0..i. Temperature, L2 normalisation and
    what a repeat has beside are the checkpoint's own.
    """
    real = batch.valid[:, 1:]
    head = network.retrieval
    queries = head.prepare(rows.events[real].float()) / network.config.temperature
    items = head.prepare_items(network.items.weight)
    targets = batch.items[:, 1:][real]
    repeat = head.repeat_logit
    assert repeat is None or (num_negatives is None and not spares_seen), "see `Recipe.config`"
    seen = _seen(batch)[real] if spares_seen or repeat is not None else None
    if num_negatives is None:
        loss = full_softmax_loss(queries, items, targets, seen, repeat)
    else:
        loss = sampled_softmax_loss(queries, items, targets, num_negatives, seen)
    return loss / max(1, counts.items)


def _seen(batch: Batch) -> Tensor:
    """(B, L, L) int64: for event row i the items of events 0..i, then the first again."""
    own = batch.items[:, None, :-1]
    place = torch.arange(own.shape[2], device=own.device)
    return torch.where(place[None, :] <= place[:, None], own, own[:, :, :1])


def action_loss(network: HSTU, batch: Batch, rows: Rows, counts: Counts) -> Tensor:
    """Weighted mean over tasks; an event without an action, or with another task's, is skipped."""
    assert rows.candidates is not None, "actions are read off candidate rows"
    config = network.config
    real = batch.valid & (batch.actions > 0)
    logits = network.action_logits(rows.candidates[real].float())  # (T, actions)
    labels = batch.actions[real] - 1
    total = 0.0 * logits.sum()  # a part without any action still has a gradient, of zero
    for task, (first, size), num in zip(config.tasks, _slots(config), counts.actions, strict=True):
        inside = _of_task(labels, first, size)
        part, label = logits[inside, first : first + size], labels[inside] - first
        if task.kind == "multiclass":
            loss = F.cross_entropy(part, label, reduction="sum")
        else:
            each = F.one_hot(label, size).float()
            loss = F.binary_cross_entropy_with_logits(part, each, reduction="sum") / size
        total = total + task.weight * loss / max(1, num)
    weight = sum(task.weight for task, num in zip(config.tasks, counts.actions, strict=True) if num)
    return total / max(weight, torch.finfo(torch.float32).tiny)


def _slots(config: HSTUConfig) -> list[tuple[int, int]]:
    """First action and number of actions of each task."""
    slots, first = [], 0
    for task in config.tasks:
        slots.append((first, len(task.actions)))
        first += len(task.actions)
    return slots


def _of_task(labels: Tensor, first: int, size: int) -> Tensor:
    return (labels >= first) & (labels < first + size)
