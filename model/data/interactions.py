"""Owns interactions as training sees them: one ordered sequence of events per user.

Never reads files; see `model.data.sources`.
"""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from model.config import ActionTask
from model.history import History
from model.items import Items


@dataclass(frozen=True, slots=True)
class Interactions:
    """All users' events, users one after another, each in stable order of time.

    `tasks` say what the action indices mean; without any, all actions are NO_ACTION.
    `num_listed` counts the items that the source lists, rated or not.
    `notes` are sentences on what was read: what was converted, what is unusual.
    """

    items: Items
    user_ids: list[str]
    offsets: Tensor  # (users + 1,) int64 into the columns below
    item: Tensor  # (events,) int64 index into items
    action: Tensor  # (events,) int64 index of the action
    timestamp: Tensor  # (events,) int64 Unix seconds
    tasks: tuple[ActionTask, ...] = ()
    num_listed: int = 0
    notes: tuple[str, ...] = ()

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

    def histories(self) -> list[History]:
        return [self.history(user) for user in range(len(self))]

    def without_last(self, count: int, *, with_ties: bool = False) -> "Interactions":
        """Every user's events but the last `count`.

        Args:
            with_ties: leave out as well what happened at the same second as one of those, so that
                no order of tied events puts what is left among the last `count`
        """
        keep = (self.lengths() - count).clamp(min=0)
        if with_ties and len(self.item):
            first_out = self.timestamp[(self.offsets[:-1] + keep).clamp(max=len(self.item) - 1)]
            earlier = self.timestamp < first_out.repeat_interleave(self.lengths())
            total = torch.cat((torch.zeros(1, dtype=torch.int64), earlier.cumsum(0)))
            keep = torch.minimum(keep, total[self.offsets].diff())
        place = torch.arange(len(self.item)) - self.offsets[:-1].repeat_interleave(self.lengths())
        rows = place < keep.repeat_interleave(self.lengths())
        offsets = torch.cat((torch.zeros(1, dtype=torch.int64), keep.cumsum(0)))
        return self._of(rows, offsets)

    def shuffle_ties(self, seed: int) -> "Interactions":
        """Events of one user and second in a random order; all else stays where it is."""
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.item), generator=generator)
        user = torch.arange(len(self)).repeat_interleave(self.lengths())
        for key in (self.timestamp, user):
            order = order[key[order].argsort(stable=True)]
        return self._of(order, self.offsets)

    def log_shares(self) -> Tensor:
        """Log share of each item among all events, plus one."""
        counts = 1 + torch.bincount(self.item, minlength=len(self.items)).float()
        return (counts / counts.sum()).log()

    def _of(self, rows: Tensor, offsets: Tensor) -> "Interactions":
        columns = self.item[rows], self.action[rows], self.timestamp[rows]
        return Interactions(
            self.items, self.user_ids, offsets, *columns, self.tasks, self.num_listed, self.notes
        )
