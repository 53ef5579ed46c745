"""Owns cutting users' histories into padded batches of similar length.

Never depends on anything but the seed and the epoch, so a resumed run sees the same batches.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from model.history import History
from model.network.hstu import Batch

_POOL_BATCHES = 16
"""Batches whose users are sorted by length together: short rows meet short rows, and yet every
epoch mixes them anew."""


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


def training_windows(histories: Sequence[History], max_length: int) -> list[History]:
    """Every event once: each history cut from its end into windows of up to `max_length` + 1.

    Neighbours share one event, the last target of one and the first input of the next. A served
    window may begin anywhere in a history, so training sees such windows too.
    """
    windows = []
    for history in histories:
        stop = len(history)
        while stop >= 2:
            start = max(0, stop - max_length - 1)
            windows.append(history.cut(start, stop))
            stop = start + 1
    return windows


def epoch_batches(
    windows: Sequence[History], batch_users: int, *, seed: int, epoch: int
) -> Iterator[Batch]:
    """All windows once, in batches of similar length, in a random order."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    lengths = torch.tensor([len(window) for window in windows])
    order = torch.randperm(len(windows), generator=generator)
    groups: list[Tensor] = []
    for pool in order.split(batch_users * _POOL_BATCHES):
        groups.extend(pool[lengths[pool].argsort(stable=True)].split(batch_users))
    for index in torch.randperm(len(groups), generator=generator).tolist():
        yield to_batch([windows[i] for i in groups[index].tolist()])
