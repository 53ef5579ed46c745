"""Owns leave-one-out evaluation of a network on each user's held-out event.

Never trains. Protocol: stable order of time, query time = the target's time, candidates = the
whole vocabulary, the full history masked, ranks by strictly greater scores.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from model.history import History
from model.network.hstu import HSTU
from model.training.batches import to_batch

CUTOFFS = (10, 50, 200)


@torch.inference_mode()
def evaluate(network: HSTU, histories: Sequence[History], *, batch_users: int) -> dict[str, float]:
    """Predict the last event of each history from the ones before it.

    Returns:
        HR@K and NDCG@K over the users, and `action_nll`, the mean negative log-likelihood of the
        action that happened (nats), where any event carries one.
    """
    network.eval()
    limit = network.config.window.keep + 1
    ranks, nll = [], []
    order = sorted(range(len(histories)), key=lambda user: len(histories[user]))
    for chunk in range(0, len(order), batch_users):
        users = [histories[user] for user in order[chunk : chunk + batch_users]]
        batch = to_batch([history.cut(-limit, None) for history in users])
        rows = network(batch)
        last = batch.lengths - 1
        index = torch.arange(len(users))
        head = network.retrieval
        scores = head(
            head.prepare(rows.events[index, last - 1]), head.prepare(network.items.weight)
        )
        target = batch.items[index, last]
        target_scores = scores[index, target].unsqueeze(1)
        for row, history in enumerate(users):
            scores[row, history.items] = -torch.inf
        ranks.append((scores > target_scores).sum(1))
        if rows.candidates is not None:
            labels = batch.actions[index, last]
            logits = network.action_logits(rows.candidates[index, last])
            nll.append(_action_nll(network.action_probabilities(logits), labels))
    metrics, losses = _metrics(torch.cat(ranks)), torch.cat(nll) if nll else torch.empty(0)
    return metrics | {"action_nll": float(losses.mean())} if len(losses) else metrics


def _action_nll(probabilities: Tensor, labels: Tensor) -> Tensor:
    known = labels > 0
    return F.nll_loss(probabilities[known].log(), labels[known] - 1, reduction="none")


def _metrics(ranks: Tensor) -> dict[str, float]:
    metrics = {}
    gain = 1 / torch.log2(ranks.float() + 2)
    for k in CUTOFFS:
        hit = ranks < k
        metrics[f"HR@{k}"] = float(hit.float().mean())
        metrics[f"NDCG@{k}"] = float((hit * gain).mean())
    return metrics
