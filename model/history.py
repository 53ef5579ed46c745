"""Owns a user's history as the model sees it: ordered, without duplicates, cut to a window.

Never encodes it. A history is immutable; merging gives a new one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from model.config import Window


class Event(NamedTuple):
    """One interaction, in the checkpoint's own indices; `timestamp` in Unix seconds."""

    item: int
    action: int
    timestamp: int


@dataclass(frozen=True, slots=True)
class MergeCounts:
    """What became of the events offered to a history."""

    accepted: int = 0
    duplicates: int = 0
    too_old: int = 0


@dataclass(frozen=True, slots=True)
class History:
    """The events of a user's window, oldest first, ties in order of arrival.

    `anchor` counts the user's events that lie before the window.
    """

    items: Tensor  # (N,) int64
    actions: Tensor  # (N,) int64
    timestamps: Tensor  # (N,) int64
    anchor: int = 0

    @classmethod
    def of(cls, events: Iterable[Event], *, anchor: int = 0) -> Self:
        """A history of events that are in order already."""
        columns = torch.tensor(list(events), dtype=torch.int64).reshape(-1, 3).T.contiguous()
        return cls(columns[0], columns[1], columns[2], anchor)

    def __len__(self) -> int:
        return self.items.shape[0]

    @property
    def events(self) -> list[Event]:
        columns = (self.items.tolist(), self.actions.tolist(), self.timestamps.tolist())
        return [Event(*row) for row in zip(*columns, strict=True)]

    @property
    def num_known(self) -> int:
        """The user's events so far, those before the window included."""
        return self.anchor + len(self)

    def cut(self, start: int | None, stop: int | None) -> "History":
        """Events `start` to `stop` as a slice counts them; what is cut off in front is counted."""
        first, last, _ = slice(start, stop).indices(len(self))
        if last - first == len(self):
            return self
        rows = slice(first, max(first, last))
        return History(
            self.items[rows], self.actions[rows], self.timestamps[rows], self.anchor + first
        )

    def only(self, rows: Tensor) -> "History":
        """The events where `rows` (N,) is true, as if there had been no others."""
        return History(self.items[rows], self.actions[rows], self.timestamps[rows], self.anchor)

    def merge(self, offered: Sequence[Event], window: Window) -> "tuple[History, MergeCounts]":
        """This history with `offered` put in its place in time, cut to the window.

        An event equal to one held (item, action and timestamp) is a duplicate and skipped, so
        sending the same events again changes nothing. Once events have left the window
        (`anchor` > 0), an event no later than the window's first belongs to what has left: skipped.
        """
        if not offered:
            return self, MergeCounts()
        times = (*self.timestamps.numpy()[-1:].tolist(), *(event.timestamp for event in offered))
        if all(before < after for before, after in pairwise(times)):
            # The usual case: all newer than what is held, so none is a duplicate or too old.
            return self.followed_by(offered).within(window), MergeCounts(len(offered))
        held = self.events
        seen = set(held)
        horizon = held[0].timestamp if self.anchor else None
        accepted, too_old = [], 0
        for event in offered:
            if event in seen:
                continue
            if horizon is not None and event.timestamp <= horizon:
                too_old += 1
                continue
            seen.add(event)
            accepted.append(event)
        counts = MergeCounts(len(accepted), len(offered) - len(accepted) - too_old, too_old)
        if not accepted:
            return self, counts
        merged = sorted(held + accepted, key=lambda event: event.timestamp)
        return History.of(merged, anchor=self.anchor).within(window), counts

    def followed_by(self, events: Sequence[Event]) -> "History":
        """With events behind it that are no older than its newest; all of them, duplicates too."""
        items, actions, timestamps = zip(*events, strict=True)
        return History(
            _joined(self.items, items),
            _joined(self.actions, actions),
            _joined(self.timestamps, timestamps),
            self.anchor,
        )

    def within(self, window: Window) -> "History":
        """What the window holds of it."""
        return self.cut(max(window.start(self.num_known) - self.anchor, 0), None)

    def common_prefix(self, other: "History") -> int:
        """Number of leading events the two share; 0 when their windows begin differently."""
        if self is other:
            return len(self)
        if self.anchor != other.anchor:
            return 0
        n = min(len(self), len(other))
        columns = [
            (mine[:n], theirs[:n])
            for mine, theirs in (
                (self.items, other.items),
                (self.actions, other.actions),
                (self.timestamps, other.timestamps),
            )
        ]
        if all(torch.equal(mine, theirs) for mine, theirs in columns):
            return n
        differs = torch.stack([mine != theirs for mine, theirs in columns]).any(0)
        return int(differs.nonzero()[0])


def _joined(held: Tensor, new: Sequence[int]) -> Tensor:
    """Through numpy, which costs less than torch for so few numbers."""
    return torch.from_numpy(np.concatenate((held.numpy(), new)))


EMPTY = History.of(())
