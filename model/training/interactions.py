"""Owns interactions as training sees them: one ordered sequence of events per user.

Never reads files; see `model.training.movielens`.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from model.history import History
from model.items import Items


@dataclass(frozen=True, slots=True)
class Interactions:
    """All users' events, users one after another, each in stable order of time."""

    items: Items
    user_ids: list[str]
    offsets: Tensor  # (users + 1,) int64 into the columns below
    item: Tensor  # (events,) int64 index into items
    action: Tensor  # (events,) int64 index of the action
    timestamp: Tensor  # (events,) int64 Unix seconds

    def __len__(self) -> int:
        return len(self.user_ids)

    def lengths(self) -> Tensor:
        return self.offsets.diff()

    def history(self, user: int, start: int = 0, stop: int | None = None) -> History:
        """Events `start` to `stop` of a user; negative values count from the end."""
        begin, end = (int(x) for x in self.offsets[user : user + 2])
        whole = History(self.item[begin:end], self.action[begin:end], self.timestamp[begin:end])
        return whole.cut(start, stop)

    def digest(self) -> str:
        """sha256 over all users' events, in order."""
        digest = hashlib.sha256()
        for column in (self.offsets, self.item, self.action, self.timestamp):
            digest.update(column.numpy().tobytes())
        return digest.hexdigest()

    def histories(self) -> Iterator[History]:
        return (self.history(user) for user in range(len(self)))

    def log_shares(self, leave_out: int) -> Tensor:
        """Log share of each item among all but each user's last `leave_out` events, plus one."""
        counts = torch.ones(len(self.items))
        for user in range(len(self)):
            counts += torch.bincount(
                self.history(user, 0, -leave_out or None).items, minlength=len(counts)
            )
        return (counts / counts.sum()).log()
