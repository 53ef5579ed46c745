"""What the engine adds to encoding and scoring: device, mode, retrieval, the value formula."""

import pytest
import torch
from torch.nn import functional as F

from model.config import ActionTask, ValueFormula
from model.engine.engine import Engine
from model.engine.mfalcon import Microbatch
from model.history import EMPTY
from model.network.hstu import HSTU
from tests.model.builders import (
    EVERY_ITEM,
    START,
    assert_close,
    encode,
    later,
    make_network,
    random_history,
    served,
    tiny_config,
)


def test_a_network_in_training_mode_is_served_without_dropout() -> None:
    network = make_network(tiny_config(dropout=0.9)).train()
    engine = Engine(network)
    history = random_history(12)
    first, again = (
        served(engine, encode(engine, history, later(history)), EVERY_ITEM) for _ in range(2)
    )
    assert_close(again, first, tolerance=0)
    assert not engine.network.training
    assert not any(parameter.requires_grad for parameter in engine.network.parameters())


def test_what_is_served_carries_no_gradient(engine: Engine) -> None:
    history = random_history(5)
    encoded = encode(engine, history, later(history))
    assert not encoded.state.keys.requires_grad
    assert not any(scores.requires_grad for scores in served(engine, encoded, EVERY_ITEM))


def test_retrieval_covers_the_whole_catalogue_in_order_of_index(engine: Engine) -> None:
    history = random_history(12)
    live = encode(engine, history, later(history)).live
    assert live is not None
    assert live.query is not None
    assert float(live.query.norm()) == pytest.approx(1)
    table = engine.network.items.weight
    expected = F.cosine_similarity(live.query, table) / engine.config.temperature
    assert_close([engine.retrieve(live)], [expected])


def test_no_candidates_have_no_scores(engine: Engine) -> None:
    for history in (EMPTY, random_history(4)):
        live = encode(engine, history, START).live
        assert live is not None
        [scores] = engine.score([Microbatch(live, torch.tensor([], dtype=torch.int64))])
        assert scores.shape == (0, 3)


def test_no_jobs_have_no_results(engine: Engine) -> None:
    assert engine.encode([]) == []


def engine_with(value: ValueFormula, tasks: tuple[ActionTask, ...]) -> Engine:
    return Engine(HSTU(tiny_config(value=value, tasks=tasks)))


TASKS = (
    ActionTask(name="watch", kind="multilabel", actions=("click", "finish")),
    ActionTask(name="rating", actions=("down", "up")),
)


def test_the_value_is_the_weighted_sum_of_its_parts() -> None:
    value = ValueFormula(retrieval=0.5, actions={"up": 2.0, "click": -1.0})
    engine = engine_with(value, TASKS)
    retrieval = torch.tensor([4.0, -2.0])
    probabilities = torch.tensor([[0.5, 0.9, 0.25, 0.75], [1.0, 0.9, 1.0, 0.0]])
    # 0.5 * 4 - 0.5 + 2 * 0.75 and 0.5 * -2 - 1 + 2 * 0
    assert engine.values(retrieval, probabilities).tolist() == [3.0, -2.0]


def test_the_value_of_the_preset_prefers_positive_over_negative(engine: Engine) -> None:
    probabilities = torch.tensor([[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]])
    assert engine.values(torch.zeros(2), probabilities).tolist() == [-0.25, 1.0]


def test_probabilities_follow_the_kind_of_each_task() -> None:
    engine = engine_with(ValueFormula(), TASKS)
    logits = torch.tensor([[0.0, 50.0, 1.0, 1.0]])
    assert engine.action_probabilities(logits).tolist() == [[0.5, 1.0, 0.5, 0.5]]


def test_an_empty_state_is_of_the_engine_shape(engine: Engine) -> None:
    state = engine.empty_state()
    assert (state.num_final, len(state.history)) == (0, 0)
    assert state.keys.device == engine.device
