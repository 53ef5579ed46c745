"""Owns the evaluation of a checkpoint on interactions under a protocol.

Never trains. Data and checkpoint meet by item ids and action names, so a checkpoint of any origin
can be measured on any data that shares them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from model.checkpoint import Checkpoint
from model.config import NO_ACTION, Window
from model.data.interactions import Interactions
from model.evaluation.errors import EvaluationError
from model.evaluation.leave_one_out import Case, predict
from model.evaluation.metrics import TaskQuality, action_quality, ranking_metrics
from model.evaluation.protocols import Protocol
from model.evaluation.split import seen_events
from model.history import History


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The figures, and what a reader must know to compare them."""

    metrics: dict[str, float]
    tasks: dict[str, TaskQuality]
    num_users: int
    num_targets: int
    num_candidates: int
    unknown_candidates: int  # not in the checkpoint's vocabulary: never ranked before the target
    unknown_targets: int  # counted as misses
    trained_targets: int | None  # targets that training has seen; None where that is not known


@dataclass(frozen=True, slots=True)
class Questions:
    """What a protocol asks about the users of a data set, in a checkpoint's vocabulary."""

    targets: list[tuple[int, int]]  # user of the data, and which of their events
    cases: list[Case]  # one for each of them
    unranked: Tensor  # (N,) int64 items that no case ranks
    ordered: Interactions  # the data, tied events in the protocol's order
    num_known: int  # items of the data that the checkpoint knows

    @property
    def users(self) -> list[int]:
        """The user of each case."""
        return [user for user, _ in self.targets]


def evaluate(
    checkpoint: Checkpoint,
    data: Interactions,
    protocol: Protocol,
    *,
    batch_users: int = 128,
    on_batch: Callable[[int, int], None] = lambda _done, _total: None,
) -> Evaluation:
    """Predict each user's last event, or as many of the last as the protocol says.

    Raises:
        EvaluationError: no user or no item to evaluate.
    """
    asked = questions(checkpoint, data, protocol)
    predictions = predict(
        checkpoint.network,
        asked.cases,
        unranked=asked.unranked,
        window=protocol.window,
        batch_users=batch_users,
        on_batch=on_batch,
    )
    listed = data.num_listed if protocol.candidates == "listed" else len(data.items)
    return Evaluation(
        metrics=ranking_metrics(predictions.ranks),
        tasks=action_quality(
            checkpoint.config.tasks, predictions.actions, predictions.probabilities
        ),
        num_users=len(set(asked.users)),
        num_targets=len(asked.targets),
        num_candidates=listed,
        unknown_candidates=listed - asked.num_known,
        unknown_targets=sum(not case.known for case in asked.cases),
        trained_targets=_trained_targets(checkpoint, data, asked),
    )


def questions(checkpoint: Checkpoint, data: Interactions, protocol: Protocol) -> Questions:
    """
    Raises:
        EvaluationError: no user or no item to evaluate, or a window longer than the model can see.
    """
    config = checkpoint.config
    if protocol.window and config.max_positions and protocol.window >= config.max_positions:
        raise EvaluationError(
            f"a window of {protocol.window} events: {checkpoint.name} has {config.max_positions} "
            "positions, one of them for a candidate"
        )
    ordered = data.shuffle_ties(protocol.seed) if protocol.sort == "shuffled" else data
    vocabulary = _vocabulary(checkpoint, data)
    if not bool((vocabulary >= 0).any()):
        raise EvaluationError(
            f"none of the data's {len(data.items)} items is in the checkpoint, whose ids look like "
            f"{checkpoint.items.ids[:3]}; the data's look like {data.items.ids[:3]}"
        )
    actions = _actions(checkpoint, data)
    targets = _targets(data, protocol)
    if not targets:
        raise EvaluationError(f"no user has {protocol.min_events} events or more")
    cases = [
        _case(ordered.history(user, 0, place + 1), vocabulary, actions, protocol, config.window)
        for user, place in targets
    ]
    unranked = _unranked(checkpoint, vocabulary, protocol)
    return Questions(targets, cases, unranked, ordered, int((vocabulary >= 0).sum()))


def _targets(data: Interactions, protocol: Protocol) -> list[tuple[int, int]]:
    return [
        (user, place)
        for user, length in enumerate(data.lengths().tolist())
        if length >= protocol.min_events
        for place in range(max(1, length - protocol.num_targets), length)
    ]


def _vocabulary(checkpoint: Checkpoint, data: Interactions) -> Tensor:
    """(data items,) the checkpoint's index of each, -1 where it has none."""
    index = checkpoint.items.index
    return torch.tensor([index.get(item_id, -1) for item_id in data.items.ids])


def _actions(checkpoint: Checkpoint, data: Interactions) -> Tensor:
    """(1 + data actions,) the checkpoint's index of each, NO_ACTION where it has none."""
    index = checkpoint.config.action_index
    names = [action for task in data.tasks for action in task.actions]
    return torch.tensor([NO_ACTION, *(index.get(name, NO_ACTION) for name in names)])


def _case(
    whole: History, vocabulary: Tensor, actions: Tensor, protocol: Protocol, window: Window
) -> Case:
    items, times = vocabulary[whole.items], whole.timestamps
    kept = items >= 0
    kept[-1] = True  # the target has its place even where it is unknown
    items, times, taken = items[kept], times[kept].clone(), actions[whole.actions[kept]]
    known = bool(items[-1] >= 0)
    before = items[:-1]
    first = window.start(len(before)) if protocol.anchored else 0
    seen = before[first:][-(protocol.window or window.capacity) :]
    masked = {"full": before, "window": seen, "none": before[:0]}[protocol.mask]
    if protocol.query_time == "last_event" and len(before):
        times[-1] = times[-2]
    history = History(items.clamp(min=0), taken, times)
    return Case(history.cut(first, None), masked, known)


def _unranked(checkpoint: Checkpoint, vocabulary: Tensor, protocol: Protocol) -> Tensor:
    """The checkpoint's items that are not among the candidates."""
    ranked = torch.zeros(len(checkpoint.items), dtype=torch.bool)
    ranked[vocabulary[vocabulary >= 0]] = True
    return (~ranked & (protocol.candidates == "rated")).nonzero().flatten()


def _trained_targets(checkpoint: Checkpoint, data: Interactions, asked: Questions) -> int | None:
    """How many targets were not held out from training on `data`."""
    seen = seen_events(checkpoint, data)
    if seen is None:
        return None
    num_trained = 0
    for (user, place), length in zip(asked.targets, seen[asked.users].tolist(), strict=True):
        held_out = set(data.history(user, length).events)
        num_trained += asked.ordered.history(user, place, place + 1).events[0] not in held_out
    return num_trained
