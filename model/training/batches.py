"""Owns cutting users' histories into padded batches of similar length.

Never depends on anything but the seed, so a resumed run sees the same batches.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from model.history import History
from model.network.batch import Batch, to_batch

_POOL_BATCHES = 16
"""Batches whose users are sorted by length together: short rows meet short rows, and yet every
epoch mixes them anew."""


def training_windows(
    histories: Sequence[History], max_length: int, *, last_only: bool = False
) -> list[History]:
    """Every event once: each history cut from its end into windows of up to `max_length` + 1.

    Neighbours share one event, the last target of one and the first input of the next. A served
    window may begin anywhere in a history, so training sees such windows too, unless `last_only`.
    """
    windows = []
    for history in histories:
        stop = len(history)
        while stop >= 2:
            start = max(0, stop - max_length - 1)
            windows.append(history.cut(start, stop))
            stop = 0 if last_only else start + 1
    return windows


def thinned(histories: Sequence[History], share: float, *, seed: int) -> list[History]:
    """Each without a share of its events, drawn evenly; whole if fewer than two would be left."""
    generator = torch.Generator().manual_seed(seed)
    lengths = [len(history) for history in histories]
    kept = torch.rand(sum(lengths), generator=generator) >= share
    return [
        history.only(rows) if int(rows.sum()) >= 2 else history
        for history, rows in zip(histories, kept.split(lengths), strict=True)
    ]


def epoch_steps(windows: Sequence[History], batch_users: int, *, seed: int) -> list[list[int]]:
    """All windows once, as indices: a list per step, of windows of similar length."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([len(window) for window in windows])
    order = torch.randperm(len(windows), generator=generator)
    groups: list[Tensor] = []
    for pool in order.split(batch_users * _POOL_BATCHES):
        groups.extend(pool[lengths[pool].argsort(stable=True)].split(batch_users))
    shuffled = torch.randperm(len(groups), generator=generator).tolist()
    return [groups[index].tolist() for index in shuffled]


def parts_of(step: Sequence[History], num_parts: int) -> list[Batch]:
    """A step's windows dealt out in turn, so that parts are of similar size; none is empty."""
    return [to_batch(step[part::num_parts]) for part in range(min(num_parts, len(step)))]
