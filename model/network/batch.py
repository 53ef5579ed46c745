"""Owns padded batches: several histories as the tensors that the padded forward takes.

Never cuts or orders histories.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.history import History


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded sequences of L + 1 events each; padding holds item 0, action 0, the last time.

    Event rows are made of the first L events; each looks from the time of the event after it.
    """

    items: Tensor  # (B, L + 1) int64
    actions: Tensor  # (B, L + 1) int64
    timestamps: Tensor  # (B, L + 1) int64
    lengths: Tensor  # (B,) int64, real events per user, at least 1

    def to(self, device: torch.device) -> "Batch":
        columns = (self.items, self.actions, self.timestamps, self.lengths)
        return Batch(*(column.to(device) for column in columns))

    @property
    def valid(self) -> Tensor:
        """(B, L + 1) bool, True on real events."""
        return torch.arange(self.items.shape[1], device=self.items.device) < self.lengths[:, None]


def to_batch(histories: Sequence[History]) -> Batch:
    """Right-padded; padding repeats the last time, so that it looks like no gap."""
    lengths = torch.tensor([len(h) for h in histories])
    width = int(lengths.max())
    items = torch.zeros(len(histories), width, dtype=torch.int64)
    actions, times = torch.zeros_like(items), torch.zeros_like(items)
    for row, history in enumerate(histories):
        n = len(history)
        items[row, :n], actions[row, :n] = history.items, history.actions
        times[row, :n], times[row, n:] = history.timestamps, history.timestamps[-1]
    return Batch(items, actions, times, lengths)
