"""Owns the late head: an MLP over the event row before and the item, without a candidate row.

Never trains the network below it. It is what a model without target-aware rows predicts actions by.
"""

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.evaluation.actions.answers import Answers, OnBatch
from model.evaluation.actions.baseline import Baseline, Lessons, loss_of

_BATCH_EVENTS = 1024
_MAX_EPOCHS = 30
_PATIENCE = 3
_LEARNING_RATE = 1e-3


class LateHead(nn.Module):
    """Of row h and item e: [h, e, h * e] -> hidden -> actions."""

    def __init__(self, items: Tensor, num_actions: int) -> None:
        super().__init__()
        width = items.shape[1]
        self.items = nn.Embedding.from_pretrained(items.clone(), freeze=False)
        self.hidden = nn.Linear(3 * width, 4 * width)
        self.logits = nn.Linear(4 * width, num_actions)

    def forward(self, rows: Tensor, items: Tensor) -> Tensor:
        e = self.items(items)
        x = torch.cat((rows, e, rows * e), -1)
        out: Tensor = self.logits(F.silu(self.hidden(x)))
        return out


def late_head(lessons: Lessons, on_epoch: OnBatch) -> Baseline:
    """The epoch that is best on validation; same lessons, same head."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _trained(LateHead(lessons.items, lessons.num_actions), lessons, on_epoch)


def _trained(head: LateHead, lessons: Lessons, on_epoch: OnBatch) -> Baseline:
    optimizer = torch.optim.AdamW(head.parameters(), lr=_LEARNING_RATE)
    best, best_loss, best_epoch = head, math.inf, 0
    for epoch in range(1, _MAX_EPOCHS + 1):
        _epoch(head, optimizer, lessons.training)
        loss = loss_of(_answering(head), lessons.validation)
        on_epoch(epoch, _MAX_EPOCHS)
        if loss < best_loss:
            best, best_loss, best_epoch = copy.deepcopy(head), loss, epoch
        elif epoch - best_epoch >= _PATIENCE:
            break
    return _answering(best)


def _epoch(head: LateHead, optimizer: torch.optim.Optimizer, training: Answers) -> None:
    for chunk in torch.randperm(len(training.actions)).split(_BATCH_EVENTS):
        optimizer.zero_grad(set_to_none=True)
        logits = head(training.rows[chunk], training.items[chunk])
        F.cross_entropy(logits, training.actions[chunk] - 1).backward()
        optimizer.step()


def _answering(head: LateHead) -> Baseline:
    @torch.inference_mode()
    def answer(events: Answers) -> Tensor:
        found: Tensor = head(events.rows, events.items)
        return found

    return answer
