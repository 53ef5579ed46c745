"""Every preset is served as its class promises: equal to the oracle, with or without reuse."""

import pytest
import torch

from model.cacheability import classify
from model.config import HSTUConfig
from model.engine.engine import Engine
from model.engine.mfalcon import Microbatch
from model.engine.oracle import Oracle
from model.history import Event, History
from model.network.batch import to_batch
from model.presets import PRESETS
from tests.model.builders import NUM_ITEMS, TOLERANCE, encode, later, make_network, random_events

ACROSS = {"native", "meta", "tf", "genrec", "sasrec"}
LENGTHS = (1, 2, 9, 24)


def tiny(name: str) -> HSTUConfig:
    """Sizes that fit every form; a norm of large epsilon does not hide the divisor.

    Temperatures keep logits near one, where float32 leaves a margin below the tolerance.
    """
    sizes = {"d_model": 16, "num_layers": 2, "num_heads": 2, "qk_dim": 8, "v_dim": 8}
    length = {} if name == "native" else {"max_length": 24}
    temperature = PRESETS[name](NUM_ITEMS, **sizes).temperature * 20
    return PRESETS[name](NUM_ITEMS, **sizes, **length, norm_eps=0.1, temperature=temperature)


@pytest.fixture(params=PRESETS)
def engine(request: pytest.FixtureRequest) -> Engine:
    return Engine(make_network(tiny(request.param)))


def assert_right(engine: Engine, history: History, now: int, state: object = None) -> None:
    live = encode(engine, history, now, state).live  # type: ignore[arg-type]
    assert live is not None
    retrieval = engine.retrieve(live)
    oracle = Oracle(engine.network, history, now)
    for candidate in (0, 7, NUM_ITEMS - 1):
        difference = retrieval[candidate] - oracle.score(candidate).retrieval
        assert float(difference.abs()) <= TOLERANCE


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_has_its_class_with_reasons_and_its_window(name: str) -> None:
    found = classify(tiny(name))
    assert found.across_requests == (name in ACROSS)
    assert found.reasons
    assert tiny(name).window.strict == (name not in ACROSS)


@pytest.mark.parametrize("length", LENGTHS)
def test_a_prefill_equals_the_oracle(engine: Engine, length: int) -> None:
    history = History.of(random_events(length, seed=length))
    assert_right(engine, history, later(history))


def test_appends_event_by_event_equal_the_oracle(engine: Engine) -> None:
    events, state = random_events(20, seed=3), engine.empty_state()
    across = classify(engine.config).across_requests
    for stop in range(1, len(events) + 1):
        history = History.of(events[:stop])
        assert_right(engine, history, later(history), state)
        state = encode(engine, history, None, state).state
        assert state.num_final == (stop - 1 if across else 0)


def test_training_runs_the_rows_that_are_served(engine: Engine) -> None:
    """The last row of each user of a padded batch, whose target's time is the request's."""
    network = engine.network
    histories = [History.of(random_events(n + 1, seed=n)) for n in LENGTHS]
    rows = network(to_batch(histories))
    head = network.retrieval
    for user, history in enumerate(histories):
        known, target = history.cut(0, -1), history.events[-1]
        query = head.prepare(rows.events[user, len(known) - 1])
        logit = head(query, head.prepare_items(network.items.weight))[target.item]
        right = Oracle(network, known, target.timestamp).score(target.item).retrieval
        assert float((logit - right).abs().max()) <= TOLERANCE


def test_a_log_bucket_of_time_is_not_the_only_one_used() -> None:
    """One public code puts every causal pair into one bucket of position."""
    network = make_network(tiny("genrec"))
    history = History.of([Event(1, 0, 10**9 + 86_400 * day) for day in range(8)])
    times = history.timestamps
    assert len(network.time_buckets(times[:, None], times).unique()) > 2
    bias = network.blocks[0].bias.by_distance(torch.arange(8))
    assert len(bias[0].unique()) == 8


def test_a_model_without_action_tasks_scores_no_actions(engine: Engine) -> None:
    """Ranking then goes by retrieval alone; candidates still come back one for one."""
    history = History.of(random_events(9, seed=4))
    live = encode(engine, history, later(history)).live
    assert live is not None
    (logits,) = engine.score([Microbatch(live, torch.tensor([3, 1, 4]))])
    assert logits.shape == (3, len(engine.config.actions))
    retrieval = engine.retrieve(live)[:3]
    values = engine.values(retrieval, engine.action_probabilities(logits))
    if not engine.config.tasks:
        assert torch.equal(values, retrieval)
