"""Owns comparing a trained checkpoint's lists with and without a cached state, and their price.

Never judges a list by its order alone: it tells how far scores are apart. Without a state, each
candidate has a full forward of its own, the fastest that there is here.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from model.checkpoint import Checkpoint
from model.data.interactions import Interactions
from model.engine.encoder import EncodeJob, LiveUser
from model.engine.engine import Engine
from model.engine.mfalcon import microbatches
from model.evaluation.errors import EvaluationError
from model.evaluation.evaluate import questions
from model.evaluation.leave_one_out import Case, target_ranks
from model.evaluation.metrics import ranking_metrics
from model.evaluation.protocols import PROTOCOLS
from model.history import History
from model.network.batch import to_batch
from service.benchmark.engine.full_forward import FullForward
from service.benchmark.timing import once_s

PROTOCOL = "rectools"


@dataclass(frozen=True, slots=True)
class Ways:
    """The same figure with full forwards, and from cached states."""

    full: float
    cached: float


@dataclass(frozen=True, slots=True)
class Lists:
    num_users: int  # whose next item was predicted
    num_lists: int  # users whose candidates were also scored, one by one
    num_candidates: int  # of each list
    microbatch: int
    hr10: Ways
    ndcg10: Ways
    same_ranks: int  # users whose target has the same rank
    same_lists: int
    largest_retrieval_difference: float  # of any item's logit
    largest_action_difference: float  # of any candidate's logit
    seconds: Ways  # median over lists, of which both ways take turns

    @property
    def speed_ratio(self) -> float:
        return self.seconds.full / self.seconds.cached


@dataclass(frozen=True, slots=True)
class _User:
    """One who returns: all but the newest event are in the state."""

    asked: History  # ends with the target
    known: History
    request_time: int
    job: EncodeJob


def compare_lists(
    checkpoint: Checkpoint,
    data: Interactions,
    *,
    num_users: int | None,
    num_lists: int,
    num_candidates: int,
    microbatch: int,
    seed: int,
    on_user: Callable[[int, int], None],
) -> Lists:
    """`num_users` are drawn among those that the protocol asks about; None: all of them.

    Raises:
        EvaluationError: data and checkpoint do not go together, or it predicts no actions.
    """
    if not checkpoint.config.tasks:
        raise EvaluationError(
            f"{checkpoint.name} predicts no actions: no candidate of it has a row to compare"
        )
    asked = questions(checkpoint, data, PROTOCOLS[PROTOCOL])
    order = torch.randperm(len(asked.cases), generator=torch.Generator().manual_seed(seed))
    chosen = order[:num_users].tolist()
    comparing = _Comparing(checkpoint, asked.unranked, num_candidates, microbatch)
    for done, number in enumerate(chosen):
        on_user(done, len(chosen))
        comparing.add(asked.cases[number], with_list=done < num_lists)
    return comparing.found()


class _Comparing:
    def __init__(
        self, checkpoint: Checkpoint, unranked: Tensor, num_candidates: int, microbatch: int
    ) -> None:
        self._engine, self._unranked = Engine(checkpoint.network), unranked
        self._num_candidates = min(num_candidates, checkpoint.config.num_items)
        self._microbatch = microbatch
        self._ranks: list[tuple[Tensor, Tensor]] = []
        self._is_same: list[bool] = []
        self._retrieval, self._actions = [0.0], [0.0]
        self._seconds: list[tuple[float, float]] = []

    def add(self, case: Case, *, with_list: bool) -> None:
        user = self._user(case)
        full, cached = self._full_logits(user), self._engine.retrieve(self._live(user))
        self._retrieval.append(float((full - cached).abs().max()))
        ranked = [self._ranked(logits, case) for logits in (full, cached)]
        target = case.history.items[-1:]
        first, second = (target_ranks(scores[None], target, [case]) for scores in ranked)
        self._ranks.append((first, second))
        if with_list:
            self._compare_lists(user, ranked[0].topk(self._num_candidates).indices)

    def found(self) -> Lists:
        full, cached = (torch.cat(ranks) for ranks in zip(*self._ranks, strict=True))
        figures = [ranking_metrics(ranks) for ranks in (full, cached)]
        full_s, cached_s = map(statistics.median, zip(*self._seconds, strict=True))
        return Lists(
            num_users=len(full),
            num_lists=len(self._seconds),
            num_candidates=self._num_candidates,
            microbatch=self._microbatch,
            hr10=Ways(*(each["HR@10"] for each in figures)),
            ndcg10=Ways(*(each["NDCG@10"] for each in figures)),
            same_ranks=int((full == cached).sum()),
            same_lists=sum(self._is_same),
            largest_retrieval_difference=max(self._retrieval),
            largest_action_difference=max(self._actions),
            seconds=Ways(full_s, cached_s),
        )

    def _user(self, case: Case) -> _User:
        asked = case.history.cut(-self._engine.config.window.capacity - 1, None)
        known, now = asked.cut(0, -1), int(asked.timestamps[-1])
        known = History(known.items, known.actions, known.timestamps)  # a history of its own
        before = EncodeJob(self._engine.empty_state(), known.cut(0, -1))
        (encoded,) = self._engine.encode([before])
        return _User(asked, known, now, EncodeJob(encoded.state, known, now))

    def _live(self, user: _User) -> LiveUser:
        live = self._engine.encode([user.job])[0].live
        assert live is not None
        return live

    @torch.inference_mode()
    def _full_logits(self, user: _User) -> Tensor:
        """Of the whole catalogue, by the padded forward that training runs: (items,)."""
        network = self._engine.network
        rows = network(to_batch([user.asked]), with_candidates=False).events[0, -1]
        head = network.retrieval
        logits: Tensor = head(head.prepare(rows), head.prepare_items(network.items.weight))
        return head.add_repeat_(logits, user.known.items)

    def _ranked(self, logits: Tensor, case: Case) -> Tensor:
        """With nothing to choose from but what the protocol ranks, and the target."""
        ranked, target = logits.clone(), case.history.items[-1]
        ranked[self._unranked] = -torch.inf
        ranked[case.masked] = -torch.inf
        ranked[target] = logits[target]
        return ranked

    def _compare_lists(self, user: _User, candidates: Tensor) -> None:
        engine, answers = self._engine, []

        def full() -> None:
            forward = FullForward(engine.network, user.known, user.request_time)
            actions = [forward.score(candidate) for candidate in candidates.split(1)]
            answers.append((self._full_logits(user)[candidates], torch.cat(actions)))

        def cached() -> None:
            live = self._live(user)
            parts = microbatches(live, candidates, self._microbatch)
            actions = [engine.score([part])[0] for part in parts]
            answers.append((engine.retrieve(live)[candidates], torch.cat(actions)))

        self._seconds.append((once_s(full), once_s(cached)))
        orders = [
            engine.values(logits, engine.action_probabilities(actions)).argsort(
                descending=True, stable=True
            )
            for logits, actions in answers
        ]
        self._is_same.append(torch.equal(*orders))
        (_, actions), (_, others) = answers
        self._actions.append(float((actions - others).abs().max()))
