"""Owns what a network says of the actions of events of which it knows all but that.

Never calibrates it, and never judges.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.history import History
from model.network.batch import to_batch
from model.network.hstu import HSTU

OnBatch = Callable[[int, int], None]
"""Called with the batches done, and how many there are."""

_BATCH_USERS = 64


@dataclass(frozen=True, slots=True)
class Answers:
    """One row per event that has an action, in any order."""

    users: Tensor  # (N,) int64
    items: Tensor  # (N,) int64
    actions: Tensor  # (N,) int64, which one happened, counted from NO_ACTION + 1
    rows: Tensor  # (N, D) of the event before: all that a head without candidate rows sees
    logits: Tensor  # (N, actions) of the candidate row


@torch.no_grad()  # and not inference_mode: baselines are trained on them
def answers(
    network: HSTU,
    users: Sequence[int],
    histories: Sequence[History],
    on_batch: OnBatch,
    *,
    only_last: bool = True,
) -> Answers:
    """Of the last event of each history, or of all but the first.

    Args:
        histories: none exceeds the model's window by more than one event; at least two each
    """
    network.eval()
    order = sorted(range(len(histories)), key=lambda place: len(histories[place]))
    chunks = [order[start : start + _BATCH_USERS] for start in range(0, len(order), _BATCH_USERS)]
    parts: list[tuple[Tensor, ...]] = []
    for done, chunk in enumerate(chunks, start=1):
        batch = to_batch([histories[place] for place in chunk])
        rows = network(batch)
        assert rows.candidates is not None, "actions are read off candidate rows"
        asked = (batch.valid & (batch.actions > 0))[:, 1:]
        if only_last:
            asked &= torch.arange(1, batch.items.shape[1]) == batch.lengths[:, None] - 1
        user = torch.tensor([users[place] for place in chunk])[:, None].expand_as(asked)
        logits = network.action_logits(rows.candidates[:, 1:][asked])
        found = (user, batch.items[:, 1:], batch.actions[:, 1:], rows.events)
        parts.append((*(column[asked] for column in found), logits))
        on_batch(done, len(chunks))
    return Answers(*map(torch.cat, zip(*parts, strict=True)))
