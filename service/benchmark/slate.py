"""Owns measuring slates: what an item of one costs against extends and prefills, and what a beam
finds that a greedy sequence does not.

Never compares times of different runs: all of a shape's contenders take turns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from model.checkpoint import Checkpoint
from model.data.interactions import Interactions
from model.engine.encoder import EncodeJob, LiveUser
from model.engine.engine import Engine
from model.engine.mfalcon import Microbatch
from model.engine.slate import Beam, Pick, Prefix, lengthen
from model.evaluation.evaluate import questions
from model.evaluation.protocols import PROTOCOLS
from model.history import History
from model.network.hstu import HSTU
from service.benchmark.engine.passes import of_live
from service.benchmark.engine.users import User, make_users
from service.benchmark.shapes import Shape
from service.benchmark.timing import OnTurn, medians_ms, time_in_turns

LENGTH = 10
"""Items of a slate."""

BEAMS = (1, 4, 16)

_PROTOCOL = "rectools"
"""Whose test users and windows are taken."""

_EXTEND, _APPEND, _PREFILL = "extend by 1", "append and score", "prefill"


@dataclass(frozen=True, slots=True)
class SlateCost:
    """Of one shape, in one run."""

    shape: Shape
    rounds: int
    kernels: str
    extend_ms: float
    append_ms: float  # extend, scores of the whole catalogue, actions of the best item
    prefill_ms: float
    step_ms: dict[int, float]  # for each item of a slate, by beam

    def over(self, beam: int, unit_ms: float) -> float:
        """An item of a slate over as many units as it has branches."""
        return self.step_ms[beam] / (beam * unit_ms)


@dataclass(frozen=True, slots=True)
class SlateGain:
    """What the sequences of a beam have over greedy ones."""

    users: int
    length: int
    beam: int
    different: float  # share of the users whose best sequence is another
    other_items: float  # share of those whose best sequence has other items
    gain: float  # mean of the log probabilities' differences
    largest_gain: float


def measure_cost(shape: Shape, *, rounds: int, seed: int, on_turn: OnTurn) -> SlateCost:
    """Random weights: speed does not depend on them."""
    torch.manual_seed(seed)
    engine = Engine(HSTU(shape.config()))
    (user,) = make_users(engine, shape, 1)
    allowed = _unseen(engine, user.history)
    root = Prefix(user.live, engine.retrieve(user.live))
    contenders: dict[str, Callable[[], object]] = {
        _EXTEND: lambda: engine.encode([user.job(user.without_newest[1])]),
        _APPEND: lambda: _append_and_score(engine, user),
        _PREFILL: lambda: engine.encode([user.job(engine.empty_state())]),
    }
    for beam in BEAMS:
        contenders[_label(beam)] = partial(_best, engine, root, allowed, beam, LENGTH)
    median_ms = medians_ms(time_in_turns(contenders, rounds=rounds, on_turn=on_turn))
    return SlateCost(
        shape=shape,
        rounds=rounds,
        kernels=engine.kernels,
        extend_ms=median_ms[_EXTEND],
        append_ms=median_ms[_APPEND],
        prefill_ms=median_ms[_PREFILL],
        step_ms={beam: median_ms[_label(beam)] / LENGTH for beam in BEAMS},
    )


def histories_of(
    checkpoint: Checkpoint, data: Interactions, num_users: int, seed: int
) -> list[History]:
    """Of so many users of the data, all but their last event."""
    cases = questions(checkpoint, data, PROTOCOLS[_PROTOCOL]).cases
    order = torch.randperm(len(cases), generator=torch.Generator().manual_seed(seed))
    return [cases[number].history.cut(0, -1) for number in order[:num_users].tolist()]


def measure_gain(engine: Engine, histories: Sequence[History], beam: int) -> SlateGain:
    """Each user a minute after their newest event, without the items of their window."""
    pairs = []
    for history in histories:
        live = _live(engine, history)
        root, allowed = Prefix(live, engine.retrieve(live)), _unseen(engine, history)
        pairs.append([_best(engine, root, allowed, width, LENGTH) for width in (1, beam)])
    items = [[[pick.item for pick in picks] for picks in pair] for pair in pairs]
    gains = [_log_probability(best) - _log_probability(greedy) for greedy, best in pairs]
    count = len(pairs)
    return SlateGain(
        users=count,
        length=LENGTH,
        beam=beam,
        different=sum(greedy != best for greedy, best in items) / count,
        other_items=sum(set(greedy) != set(best) for greedy, best in items) / count,
        gain=sum(gains) / count,
        largest_gain=max(gains),
    )


def _best(
    engine: Engine, root: Prefix, allowed: torch.Tensor, width: int, length: int
) -> tuple[Pick, ...]:
    beam = Beam(root, allowed, width)
    for _ in range(length):
        lengthen(engine, [beam])
    return beam.picks


def _append_and_score(engine: Engine, user: User) -> list[torch.Tensor]:
    """What a client who appends one item at a time asks for."""
    (encoded,) = engine.encode([user.job(user.without_newest[1])])
    live = of_live(encoded.live)
    return engine.score([Microbatch(live, engine.retrieve(live).topk(1).indices)])


def _unseen(engine: Engine, history: History) -> torch.Tensor:
    allowed = torch.ones(engine.config.num_items, dtype=torch.bool)
    allowed[history.items] = False
    return allowed


def _live(engine: Engine, history: History) -> LiveUser:
    now_s = int(history.timestamps[-1]) + 60
    (encoded,) = engine.encode([EncodeJob(engine.empty_state(), history, now_s)])
    return of_live(encoded.live)


def _log_probability(picks: Sequence[Pick]) -> float:
    return sum(pick.log_probability for pick in picks)


def _label(beam: int) -> str:
    return f"slate, beam {beam}"
