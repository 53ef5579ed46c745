"""Owns which events of its data a checkpoint has seen, and which are left to fit and judge by.

Never evaluates.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from operator import gt
from typing import Any

import torch
from torch import Tensor

from model.checkpoint import Checkpoint
from model.data.interactions import Interactions
from model.evaluation.errors import EvaluationError
from model.history import History


@dataclass(frozen=True, slots=True)
class Targets:
    """Events to predict, each the last of a history that fills a window."""

    users: list[int]
    histories: list[History]


@dataclass(frozen=True, slots=True)
class Split:
    """The test events are each user's last; validation is what training held out before them."""

    training: list[History]  # of each user
    validation: Targets
    test: Targets


def split(checkpoint: Checkpoint, data: Interactions, num_targets: int) -> Split:
    """
    Args:
        num_targets: test events of each user

    Raises:
        EvaluationError: it was trained on other data, has seen a test event, or all before them.
    """
    seen = seen_events(checkpoint, data)
    if seen is None or checkpoint.items.ids != data.items.ids:
        raise EvaluationError(
            f"{checkpoint.name} does not say that it was trained on this data, and so not which "
            "events it has not seen: give the file it was trained on, or train it anew"
        )
    known = seen.clamp(min=1).tolist()  # a first event has no history to be predicted from
    lengths = data.lengths().tolist()
    first_test = [max(length - num_targets, 1) for length in lengths]
    if any(map(gt, known, first_test)):
        raise EvaluationError(
            f"{checkpoint.name} was trained on some of the last {num_targets} events of users, "
            "which are to judge it: train it with a higher --num-held-out"
        )
    window = checkpoint.config.window.capacity
    made = Split(
        training=[data.history(user, 0, num) for user, num in enumerate(seen.tolist())],
        validation=_targets(data, map(range, known, first_test), window),
        test=_targets(data, map(range, first_test, lengths), window),
    )
    if not made.validation.users:
        raise EvaluationError(
            f"{checkpoint.name} has seen all events but those that are to judge it, and none is "
            "left to fit on: train it with --num-held-out 2 or more"
        )
    return made


def seen_events(checkpoint: Checkpoint, data: Interactions) -> Tensor | None:
    """(users,) how many events of each, from the first, training has seen; None if that is not
    known."""
    seen = torch.zeros(len(data), dtype=torch.int64)
    record: Any = checkpoint.training
    while record is not None:  # and of what the run started from, and so on
        options = record.get("options") if isinstance(record, dict) else None
        if not isinstance(options, dict) or record.get("events") != data.digest():
            return None
        with_ties = options.get("hold_out") == "ties"
        left = data.without_last(int(options.get("num_held_out", 2)), with_ties=with_ties)
        seen = torch.maximum(seen, left.lengths())
        record = record.get("start")
    return seen


def _targets(data: Interactions, places: Iterable[range], window: int) -> Targets:
    """Those events of each user, after the `window` events before them."""
    chosen = [(user, place) for user, found in enumerate(places) for place in found]
    histories = [data.history(user, max(0, at - window), at + 1) for user, at in chosen]
    return Targets([user for user, _ in chosen], histories)
