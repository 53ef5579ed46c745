"""Owns two checkpoints that share users, what one's events are to the other, and right answers."""

from dataclasses import dataclass
from typing import Any

import pytest

from model.checkpoint import Checkpoint
from model.config import Window
from model.engine.engine import Engine
from model.engine.oracle import Oracle
from model.history import Event, History
from model.items import Items
from service.exactness import relative_tolerance
from service.metrics import Metrics
from service.row_format import QUANTISED
from service.scheduler import EngineThread
from service.schemas import EventIn, RecommendResponse
from service.served_model import engine_thread
from service.settings import Settings
from tests.model.builders import TOLERANCE, make_network, tiny_config
from tests.reference import ReferenceHistory

SETTINGS = Settings(microbatch=2)


@dataclass(frozen=True, slots=True)
class Model:
    """What all replicas of a checkpoint share."""

    checkpoint: Checkpoint
    engine: Engine
    thread: EngineThread
    fingerprint: bytes

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> "Model":
        engine = Engine(checkpoint.network)
        thread = engine_thread(engine, SETTINGS, Metrics())
        return cls(checkpoint, engine, thread, checkpoint.digests().fingerprint)

    def event(self, event: EventIn) -> Event | None:
        """In this model's indices; None for an item that it does not know."""
        item = self.checkpoint.items.index.get(event.item_id)
        actions = self.checkpoint.config.action_index
        return (
            None
            if item is None
            else Event(item, actions.get(event.action or "", 0), event.timestamp)
        )


def make_models() -> tuple[Model, Model]:
    """Two vocabularies that overlap, in another order; a window that moves, and a strict one."""
    made = []
    for seed, (ids, window) in enumerate(
        [("abcde", Window(capacity=6, keep=3)), ("gfedcb", Window(capacity=4, keep=4))]
    ):
        sizes: dict[str, Any] = {"d_model": 8, "num_layers": 2, "qk_dim": 4, "v_dim": 4}
        config = tiny_config(len(ids), window=window, **sizes)
        items = Items([{"item_id": id_} for id_ in ids])
        made.append(Model.of(Checkpoint(f"model {seed}", make_network(config, seed=seed), items)))
    return made[0], made[1]


def between(old: Model, new: Model) -> Any:
    """An event of one model in the other's indices; both know the same actions."""

    def translated(event: Event) -> Event | None:
        item = new.checkpoint.items.index.get(old.checkpoint.items.ids[event.item])
        return None if item is None else event._replace(item=item)

    return translated


def assert_right(
    answer: RecommendResponse,
    model: Model,
    expected: ReferenceHistory,
    now_s: int,
    *,
    is_rounded: bool,
) -> None:
    """Every score is the oracle's for the events expected, and nothing else was answered from.

    From rounded rows: within the bound that verification holds each number format to.
    """
    assert answer.complete
    cache = answer.cache
    assert cache.reused_events + cache.encoded_events == len(expected.held)
    oracle = Oracle(model.checkpoint.network, History.of(expected.held), now_s)
    index = model.checkpoint.items.index
    right = {item["item_id"]: oracle.score(index[item["item_id"]]) for item in answer.items}
    allowed_retrieval = allowed_actions = TOLERANCE
    if is_rounded:
        share = max(map(relative_tolerance, QUANTISED))
        allowed_retrieval = share * max(float(score.retrieval.abs()) for score in right.values())
        allowed_actions = share * max(float(score.actions.abs().max()) for score in right.values())
    for item in answer.items:
        score = right[item["item_id"]]
        probabilities = model.checkpoint.network.action_probabilities(score.actions).tolist()
        assert item["retrieval_score"] == pytest.approx(
            float(score.retrieval), abs=allowed_retrieval
        )
        assert item["actions"] is not None
        assert list(item["actions"].values()) == pytest.approx(probabilities, abs=allowed_actions)
