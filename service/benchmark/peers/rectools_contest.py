"""Owns measuring retrieval for one returning user: RecTools, the engine, and mfalcon over HTTP.

The same weights and the same user for all three; they take turns in every round. RecTools and the
engine run in this process, on the same threads.
"""

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from model.checkpoint import load
from model.engine.encoder import EncodeJob
from model.engine.engine import Engine
from model.history import Event, History
from service.benchmark.load.processes import client_of, mfalcon
from service.benchmark.load.setting import Setting
from service.benchmark.load.traffic import NUM_RESULTS, Happened, Plan, Visitor, request_time
from service.benchmark.peers.rectools_model import Recommended, RecToolsModel
from service.benchmark.shapes import Shape
from service.benchmark.timing import OnTurn, once_s, take_turns
from service.benchmark.worker import Worker

NUM_ITEMS = 3706
"""Rated items of MovieLens 1M: the catalogue."""

NUM_RANKED = 1000
"""Items of it that are ranked."""

CALLS = 20
"""Of each contender in a turn; over HTTP each is another user's, with one new event."""


@dataclass(frozen=True, slots=True)
class RecToolsContest:
    """Milliseconds of one request: medians over rounds of the median of a turn."""

    shape: Shape
    positions: bool
    cacheability: str  # whether mfalcon can reuse a state of this model at the next request
    kernels: str
    rounds: int
    median_ms: dict[str, float]
    ratios: dict[str, float]
    same_items: bool  # in the same order
    max_abs_diff: float  # between the cosines


def measure_rectools(
    shape: Shape, setting: Setting, *, positions: bool, on_turn: OnTurn
) -> RecToolsContest:
    """The user has all events of the window but one before the request.

    Raises:
        RecToolsMissing: it is not installed here.
        RuntimeError: a process did not start or ended.
    """
    theirs = RecToolsModel(shape, NUM_ITEMS, positions=positions, seed=setting.seed)
    plan = Plan(
        num_users=1 + CALLS * (setting.rounds + 1),
        num_events=shape.num_events - 1,
        num_candidates=NUM_RANKED,
        num_items=NUM_ITEMS,
        num_actions=0,
        budget_ms=setting.budget_ms,
        seed=setting.seed,
    )
    visitor = Visitor(plan, 0)
    history = [*visitor.history, visitor.next_event()]
    prepared = theirs.prepared(history, visitor.candidates)
    with tempfile.TemporaryDirectory(prefix="mfalcon-bench-") as parent:
        folder = Path(parent) / shape.name
        theirs.save(folder)
        checkpoint = load(folder)
        engine = Engine(checkpoint.network)
        mine = _Mine(engine, checkpoint.items.ids, history, visitor.candidates)
        with (
            mfalcon(folder, setting.flags(shape)) as port,
            client_of(port, folder, plan) as client,
        ):
            found = {
                "rectools": prepared.recommend(NUM_RESULTS),
                "engine": mine.recommend(),
                "http": _answered(client.ask({"do": "one"}), checkpoint.config.temperature),
            }
            turns = {
                "rectools": partial(_calls_ms, partial(prepared.recommend, NUM_RESULTS)),
                "engine": partial(_calls_ms, mine.recommend),
                "http": partial(_requests_ms, client),
            }
            times = take_turns(turns, rounds=setting.rounds, on_turn=on_turn)
    median_ms = {
        name: statistics.median(statistics.median(turn) for turn in turns)
        for name, turns in times.items()
    }
    return RecToolsContest(
        shape=shape,
        positions=positions,
        cacheability=checkpoint.cacheability.exactness,
        kernels=engine.kernels,
        rounds=setting.rounds,
        median_ms=median_ms,
        ratios={
            f"rectools_over_{name}": median_ms["rectools"] / median_ms[name]
            for name in ("engine", "http")
        },
        same_items=len({tuple(each.item_ids) for each in found.values()}) == 1,
        max_abs_diff=max(_difference(found["rectools"], each) for each in found.values()),
    )


class _Mine:
    """The engine's own answer to the request, from the state of the events before it."""

    def __init__(
        self,
        engine: Engine,
        item_ids: Sequence[str],
        events: Sequence[Happened],
        candidates: Sequence[int],
    ) -> None:
        self._engine, self._item_ids = engine, item_ids
        self._candidates = torch.tensor(candidates)
        history = History.of(Event(*event) for event in events)
        before = EncodeJob(engine.empty_state(), history.cut(0, -1))
        (encoded,) = engine.encode([before])
        self._job = EncodeJob(encoded.state, history, request_time(events[-1]))

    def recommend(self) -> Recommended:
        live = self._engine.encode([self._job])[0].live
        assert live is not None
        logits = self._engine.retrieve(live)[self._candidates]
        best = logits.topk(NUM_RESULTS)
        cosines = best.values * self._engine.config.temperature
        items = self._candidates[best.indices].tolist()
        return Recommended([self._item_ids[item] for item in items], cosines.tolist())


def _answered(answer: dict[str, Any], temperature: float) -> Recommended:
    """What the service said: its scores are the logits."""
    items = answer["items"]
    return Recommended(
        [item["item_id"] for item in items], [item["score"] * temperature for item in items]
    )


def _calls_ms(call: Callable[[], object]) -> list[float]:
    return [1000 * once_s(call) for _ in range(CALLS)]


def _requests_ms(client: Worker) -> list[float]:
    latencies_ms: list[float] = client.ask({"do": "sequence", "count": CALLS})["latencies_ms"]
    return latencies_ms


def _difference(one: Recommended, other: Recommended) -> float:
    return max(abs(a - b) for a, b in zip(one.scores, other.scores, strict=True))
