"""Owns measuring what states in fewer bits do to answers, on real users with a trained checkpoint.

Never measures time. Every user's history is encoded in pieces. After each the state goes through
its stored bytes, so later rows are computed from rounded ones, as with a user who comes back.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cache import LINEAGE_BYTES, Dtype
from model.checkpoint import Checkpoint
from model.data.interactions import Interactions
from model.engine.encoder import EncodeJob, LiveUser
from model.engine.engine import Engine
from model.engine.mfalcon import Microbatch
from model.engine.state import UserState
from model.evaluation.evaluate import questions
from model.evaluation.leave_one_out import Case, target_ranks
from model.evaluation.metrics import ranking_metrics
from model.evaluation.protocols import PROTOCOLS
from model.history import History
from service.codec import StateCodec

NUM_PIECES = 4
_LINEAGE = bytes(LINEAGE_BYTES)
PROTOCOL = "rectools"
_TOP = 10
_RETRIEVED = 200
"""Items that reach the action head: the service's default."""


@dataclass(frozen=True, slots=True)
class Effect:
    """Of one dtype, against a state that was never stored."""

    largest_difference: float  # of a retrieval logit
    largest_share: float  # that, of the largest logit of all users; what is bounded (exactness.py)
    mean_difference: float
    top10_overlap: float  # of the retrieval ranking, which HR@10 is counted on; mean over users
    served_top10_overlap: float  # of the value formula's over the retrieved 200
    hr10: float
    hr10_change: float


@dataclass(frozen=True, slots=True)
class Effects:
    num_users: int  # those measured
    num_asked: int  # those that the protocol asks about
    num_pieces: int
    hr10: float  # with a state that was never stored
    by_dtype: dict[str, Effect]


@dataclass(slots=True)
class _Answers:
    """What was answered to all users from states of one kind."""

    ranks: list[Tensor] = field(default_factory=list)
    largest: list[float] = field(default_factory=list)
    mean: list[float] = field(default_factory=list)
    overlap: list[float] = field(default_factory=list)
    served_overlap: list[float] = field(default_factory=list)

    @property
    def hr10(self) -> float:
        return ranking_metrics(torch.cat(self.ranks))[f"HR@{_TOP}"]


@dataclass(frozen=True, slots=True)
class _Answer:
    logits: Tensor  # (items,)
    rank: Tensor  # (1,) the target's
    top: set[int]
    served: set[int]


def measure_effect(
    checkpoint: Checkpoint,
    data: Interactions,
    *,
    num_users: int | None,
    seed: int,
    on_user: Callable[[int, int], None],
) -> Effects:
    """`num_users` are drawn among those that the protocol asks about; None: all of them.

    Raises:
        EvaluationError: data and checkpoint do not go together.
    """
    asked = questions(checkpoint, data, PROTOCOLS[PROTOCOL])
    order = torch.randperm(len(asked.cases), generator=torch.Generator().manual_seed(seed))
    chosen = order[:num_users].tolist()
    measuring = _Measuring(checkpoint, asked.unranked)
    exact, found = _Answers(), {dtype: _Answers() for dtype in Dtype}
    largest_logit = 0.0
    for done, number in enumerate(chosen):
        on_user(done, len(chosen))
        right, *others = measuring.answers(asked.cases[number])
        exact.ranks.append(right.rank)
        largest_logit = max(largest_logit, float(right.logits.abs().max()))
        for answers, answer in zip(found.values(), others, strict=True):
            _compare(answers, answer, right)
    return Effects(
        num_users=len(chosen),
        num_asked=len(asked.cases),
        num_pieces=NUM_PIECES,
        hr10=exact.hr10,
        by_dtype={
            dtype.label: _effect(answers, exact.hr10, largest_logit)
            for dtype, answers in found.items()
        },
    )


class _Measuring:
    """Answers to one user at a time: from a state never stored, then from one of each dtype."""

    def __init__(self, checkpoint: Checkpoint, unranked: Tensor) -> None:
        self._engine = engine = Engine(checkpoint.network)
        self._unranked = unranked
        fingerprint = checkpoint.digests().fingerprint
        self._codecs = [
            StateCodec(engine.config, fingerprint, engine.pool, dtype) for dtype in Dtype
        ]

    def answers(self, case: Case) -> list[_Answer]:
        capacity = self._engine.config.window.capacity
        asked = case.history.cut(-capacity - 1, None)
        held, request_time = asked.cut(0, -1), int(asked.timestamps[-1])
        held = History(held.items, held.actions, held.timestamps)  # a history of its own
        states = [self._engine.empty_state(), *self._stored(held)]
        jobs = [EncodeJob(state, held, request_time) for state in states]
        lives = [encoded.live for encoded in self._engine.encode(jobs)]
        return [self._answer(case, live) for live in lives if live is not None]

    def _stored(self, history: History) -> Sequence[UserState]:
        """The state of each dtype, written and read after each piece."""
        states = [self._engine.empty_state() for _ in self._codecs]
        for piece in range(1, NUM_PIECES + 1):
            part = history.cut(0, len(history) * piece // NUM_PIECES)
            encoded = self._engine.encode([EncodeJob(state, part) for state in states])
            for index, codec in enumerate(self._codecs):
                stored = codec.decode(codec.encode("u", encoded[index].state, piece, _LINEAGE))
                assert stored is not None
                states[index] = stored.state
        return states

    def _answer(self, case: Case, live: LiveUser) -> _Answer:
        engine = self._engine
        logits = engine.retrieve(live)
        ranked = logits.clone()
        ranked[self._unranked] = -torch.inf
        rank = target_ranks(ranked[None], case.history.items[-1:], [case])
        retrieved = ranked.topk(min(_RETRIEVED, len(ranked))).indices
        (actions,) = engine.score([Microbatch(live, retrieved)])
        values = engine.values(logits[retrieved], engine.action_probabilities(actions))
        served = retrieved[values.topk(min(_TOP, len(values))).indices]
        return _Answer(logits, rank, set(retrieved[:_TOP].tolist()), set(served.tolist()))


def _compare(answers: _Answers, answer: _Answer, right: _Answer) -> None:
    difference = (answer.logits - right.logits).abs()
    answers.ranks.append(answer.rank)
    answers.largest.append(float(difference.max()))
    answers.mean.append(float(difference.mean()))
    answers.overlap.append(len(answer.top & right.top) / len(right.top))
    answers.served_overlap.append(len(answer.served & right.served) / len(right.served))


def _effect(answers: _Answers, hr10: float, largest_logit: float) -> Effect:
    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    return Effect(
        largest_difference=max(answers.largest),
        largest_share=max(answers.largest) / largest_logit,
        mean_difference=mean(answers.mean),
        top10_overlap=mean(answers.overlap),
        served_top10_overlap=mean(answers.served_overlap),
        hr10=answers.hr10,
        hr10_change=answers.hr10 - hr10,
    )
