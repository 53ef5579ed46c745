"""Owns predicting one held-out event per user with the padded forward.

Never chooses what is held out or masked; `model.evaluation.protocols` does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.history import History
from model.network.batch import to_batch
from model.network.hstu import HSTU

MISS = 1 << 40
"""The rank of a target that can not be ranked."""


@dataclass(frozen=True, slots=True)
class Case:
    """A history that ends with the event to predict, at the time it is asked for."""

    history: History
    masked: Tensor  # (N,) int64 items that are not ranked, unless one is the target
    known: bool = True  # whether the target is in the vocabulary; if not, it is a miss


@dataclass(frozen=True, slots=True)
class Predictions:
    """One row per case, in the order given."""

    ranks: Tensor  # (C,) int64, 0 is best; items of equal score are taken to come before
    actions: Tensor  # (C,) int64, the action that happened, NO_ACTION if none
    probabilities: Tensor  # (C, actions)


@torch.inference_mode()
def predict(
    network: HSTU,
    cases: Sequence[Case],
    *,
    unranked: Tensor | None = None,
    window: int | None = None,
    batch_users: int = 128,
    on_batch: Callable[[int, int], None] = lambda _done, _total: None,
) -> Predictions:
    """Rank the target of each case among all items, and predict its action.

    Histories are cut to their newest events.

    Args:
        unranked: (N,) int64 items that no case ranks
        window: how many of them are left; None: as many as fill the model's window
    """
    network.eval()
    device = network.items.weight.device
    limit = (window or network.config.window.capacity) + 1
    items = network.retrieval.prepare_items(network.items.weight)
    ranks = torch.empty(len(cases), dtype=torch.int64)
    actions = torch.zeros(len(cases), dtype=torch.int64)
    probabilities = torch.zeros(len(cases), len(network.config.actions))
    order = sorted(range(len(cases)), key=lambda place: len(cases[place].history))
    chunks = [order[start : start + batch_users] for start in range(0, len(order), batch_users)]
    for done, chunk in enumerate(chunks, start=1):
        picked = [cases[place] for place in chunk]
        batch = to_batch([case.history.cut(-limit, None) for case in picked]).to(device)
        rows = network(batch)
        last, index = batch.lengths - 1, torch.arange(len(picked), device=device)
        target = batch.items[index, last]
        scores = network.retrieval.prior.repeat(len(picked), 1)
        some = last > 0
        queries = network.retrieval.prepare(rows.events[index[some], last[some] - 1])
        scores[some] = network.retrieval(queries, items)
        if network.config.repeat_bias:
            for row in some.nonzero().flatten().tolist():
                network.retrieval.add_repeat_(scores[row], batch.items[row, : last[row]])
        if unranked is not None:
            scores[:, unranked.to(device)] = -torch.inf
        ranks[chunk] = target_ranks(scores, target, picked).cpu()
        actions[chunk] = batch.actions[index, last].cpu()
        if rows.candidates is not None:
            logits = network.action_logits(rows.candidates[index, last])
            probabilities[chunk] = network.action_probabilities(logits).cpu()
        on_batch(done, len(chunks))
    return Predictions(ranks, actions, probabilities)


def target_ranks(scores: Tensor, target: Tensor, cases: Sequence[Case]) -> Tensor:
    """Scores (B, items) and target items (B,) -> number of items that come before (B,).

    What a case masks is set to minus infinity in its row of `scores`.
    """
    own = scores.gather(1, target.unsqueeze(1))
    for row, case in zip(scores, cases, strict=True):
        row[case.masked.to(scores.device)] = -torch.inf
    # Counted the other way round, so that a score that is not a number ranks last.
    after = scores < own
    after.scatter_(1, target.unsqueeze(1), True)
    known = torch.tensor([case.known for case in cases], device=scores.device)
    return torch.where(known, (~after).sum(1), MISS)
