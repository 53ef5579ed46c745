"""Owns slates: the best sequence of next items, by beam search over branches of a user's state.

Never changes that state: a branch is the user's own rows, shared, and one more for each imagined
event. An item is imagined with the action that the model takes for the most likely, at the time of
the request. A sequence is as good as the sum of its items' log probabilities, each after those
before it and among all that might have come in its place: no item comes twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from model.config import NO_ACTION
from model.engine.encoder import LiveUser
from model.engine.engine import Engine
from model.engine.mfalcon import Microbatch
from model.top import top


@dataclass(frozen=True, slots=True)
class Pick:
    """An item of a sequence, as scored for the user after those before it."""

    item: int
    retrieval: float  # logit
    log_probability: float
    logits: Tensor  # (actions,)
    action: int  # index of the most likely; NO_ACTION if the model predicts none


@dataclass(frozen=True, slots=True)
class Prefix:
    """The user after the first items of a sequence, and what the model says of the next."""

    user: LiveUser
    retrieval: Tensor  # (items,) logits
    picks: tuple[Pick, ...] = ()


@dataclass(frozen=True, slots=True)
class Branch:
    """A prefix and one item more, which is encoded only when another one is asked for."""

    prefix: Prefix
    last: Pick

    @property
    def picks(self) -> tuple[Pick, ...]:
        return (*self.prefix.picks, self.last)


class Beam:
    """The best sequences of one user, so far."""

    def __init__(self, start: Prefix, allowed: Tensor, width: int) -> None:
        """`allowed`: (items,) bool, what may be chosen; `width`: sequences that are kept."""
        self._start, self._closed, self._width = start, ~allowed, width
        self.branches: list[Branch] = []

    @property
    def picks(self) -> tuple[Pick, ...]:
        """The best of them."""
        sequences = (branch.picks for branch in self.branches)
        return max(sequences, key=_log_probability, default=())

    def choices(self, prefixes: Sequence[Prefix]) -> "list[_Choice]":
        """The best ways to go on from `prefixes`, the branches encoded; in their order."""
        prefixes = prefixes or [self._start]
        closed = self._closed.repeat(len(prefixes), 1)  # (prefixes, items)
        for row, prefix in zip(closed, prefixes, strict=True):
            row[[pick.item for pick in prefix.picks]] = True
        count = min(self._width, closed.numel() - int(closed.sum()))
        if not count:
            return []
        logits = torch.stack([prefix.retrieval for prefix in prefixes])
        log_probabilities = logits.masked_fill(closed, -torch.inf).log_softmax(-1)
        so_far = logits.new_tensor([_log_probability(prefix.picks) for prefix in prefixes])
        places, _ = top((log_probabilities + so_far[:, None]).flatten(), count)
        places = places.sort().values
        columns = (places, logits.take(places), log_probabilities.take(places))
        num_items = len(self._closed)
        return [
            _Choice(prefixes[place // num_items], place % num_items, *scores)
            for place, *scores in zip(*(column.tolist() for column in columns), strict=True)
        ]


@torch.inference_mode()
def lengthen(engine: Engine, beams: Sequence[Beam]) -> None:
    """Each sequence of all beams by one item; those of a beam with none left stay as they are.

    All branches are encoded in one pass, and the items that may follow them scored in another.
    """
    prefixes = iter(_encoded(engine, [branch for beam in beams for branch in beam.branches]))
    chosen = [beam.choices([next(prefixes) for _ in beam.branches]) for beam in beams]
    branches = iter(_scored(engine, [choice for choices in chosen for choice in choices]))
    for beam, choices in zip(beams, chosen, strict=True):
        beam.branches = [next(branches) for _ in choices] or beam.branches


@dataclass(frozen=True, slots=True)
class _Choice:
    """A branch of whose last item the actions are not predicted yet."""

    prefix: Prefix
    item: int
    retrieval: float
    log_probability: float


def _encoded(engine: Engine, branches: Sequence[Branch]) -> list[Prefix]:
    jobs = [
        engine.imagine(branch.prefix.user, branch.last.item, branch.last.action)
        for branch in branches
    ]
    users = [encoded.live for encoded in engine.encode(jobs) if encoded.live is not None]
    found = zip(users, engine.retrieve_all(users), branches, strict=True)
    return [Prefix(user, retrieval, branch.picks) for user, retrieval, branch in found]


def _scored(engine: Engine, choices: Sequence[_Choice]) -> list[Branch]:
    if not choices:
        return []
    batches = [
        Microbatch(group[0].prefix.user, torch.tensor([choice.item for choice in group]))
        for group in (list(of) for _, of in groupby(choices, lambda choice: id(choice.prefix)))
    ]
    logits = torch.cat(engine.score(batches)).cpu()
    actions = [NO_ACTION] * len(choices)
    if logits.shape[1]:
        actions = (engine.action_probabilities(logits).argmax(-1) + NO_ACTION + 1).tolist()
    return [
        Branch(each.prefix, Pick(each.item, each.retrieval, each.log_probability, row, action))
        for each, row, action in zip(choices, logits, actions, strict=True)
    ]


def _log_probability(picks: Sequence[Pick]) -> float:
    return sum(pick.log_probability for pick in picks)
