"""The best sequence of next items: what full forwards say, for one event a branch."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from model.config import TimeBucketing, ValueFormula, Window
from model.engine.engine import Engine
from model.engine.oracle import Oracle
from model.engine.slate import Beam, Pick, Prefix, lengthen
from model.history import EMPTY, Event, History
from tests.model.builders import (
    EVERY_ITEM,
    NUM_ITEMS,
    assert_close,
    encode,
    later,
    make_network,
    random_events,
    random_history,
    right_answers,
    served,
    tiny_config,
)


def beam_of(
    engine: Engine, history: History, width: int, allowed: Sequence[int] = EVERY_ITEM
) -> Beam:
    """Before its first item, of a user of whom all but two events are held."""
    held = encode(engine, history.cut(0, max(len(history) - 2, 0))).state
    user = encode(engine, history, later(history), held).live
    assert user is not None
    among = torch.zeros(NUM_ITEMS, dtype=torch.bool)
    among[list(allowed)] = True
    return Beam(Prefix(user, engine.retrieve(user)), among, width)


def slate(engine: Engine, history: History, width: int, length: int) -> tuple[Pick, ...]:
    beam = beam_of(engine, history, width)
    for _ in range(length):
        lengthen(engine, [beam])
    return beam.picks


def followed(engine: Engine, history: History, picks: Sequence[Pick], now: int) -> History:
    """As if the picks had been events."""
    events = [Event(pick.item, pick.action, now) for pick in picks]
    return EMPTY.merge(history.events + events, engine.config.window)[0]


def greedy(engine: Engine, history: History, length: int) -> list[int]:
    """The engine used plainly: score everything, append the best, begin again from nothing."""
    now, events = later(history), history.events
    for _ in range(length):
        held, _ = EMPTY.merge(events, engine.config.window)
        retrieval, logits = served(engine, encode(engine, held, now), EVERY_ITEM)
        retrieval[[event.item for event in events[len(history) :]]] = -torch.inf
        best = int(retrieval.argmax())
        actions = engine.action_probabilities(logits[best])
        events = [*events, Event(best, int(actions.argmax()) + 1 if len(actions) else 0, now)]
    return [event.item for event in events[len(history) :]]


def assert_oracles(engine: Engine, history: History, picks: Sequence[Pick]) -> None:
    """Every pick has the scores of full forwards over the events before it."""
    now = later(history)
    for count, pick in enumerate(picks):
        before = followed(engine, history, picks[:count], now)
        retrieval, actions = right_answers(engine.network, before, now, EVERY_ITEM)
        assert_close(
            (torch.tensor(pick.retrieval), pick.logits), (retrieval[pick.item], actions[pick.item])
        )
        retrieval[[earlier.item for earlier in picks[:count]]] = -torch.inf
        right = float(retrieval.log_softmax(0)[pick.item])
        assert pick.log_probability == pytest.approx(right, abs=2e-5)
        if len(pick.logits):
            probabilities = engine.action_probabilities(actions[pick.item])
            assert pick.action == int(probabilities.argmax()) + 1


@pytest.mark.parametrize("num_events", [0, 1, 12, 33])
def test_a_beam_of_one_is_greedy_appending(every_engine: Engine, num_events: int) -> None:
    history = random_history(num_events)
    picks = slate(every_engine, history, width=1, length=4)
    assert [pick.item for pick in picks] == greedy(every_engine, history, 4)
    assert_oracles(every_engine, history, picks)


@pytest.mark.parametrize(
    "window", [Window(capacity=8, keep=5), Window(capacity=6, keep=6)], ids=["moves", "strict"]
)
def test_a_window_that_fills_up_on_the_way_moves(window: Window) -> None:
    engine = Engine(make_network(tiny_config(window=window)))
    for num_events in (5, 6, 8, 20):
        history, _ = EMPTY.merge(random_events(num_events), window)
        for width in (1, 3):
            assert_oracles(engine, history, slate(engine, history, width, length=5))


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"time_query": "self"},
        {"attention": "softmax"},
        {"positions": "end", "max_positions": 64},
        {"input_times": TimeBucketing()},
    ],
    ids=str,
)
def test_models_of_items_alone(overrides: dict[str, Any]) -> None:
    """Some of which encode every row anew in every step."""
    config = tiny_config(tasks=(), value=ValueFormula(), **overrides)
    engine = Engine(make_network(config))
    for num_events in (0, 9):
        events = [event._replace(action=0) for event in random_events(num_events)]
        history = History.of(events)
        picks = slate(engine, history, width=1, length=3)
        assert [pick.item for pick in picks] == greedy(engine, history, 3)
        assert_oracles(engine, history, picks)


def best_by_oracles(
    engine: Engine, history: History, allowed: Sequence[int]
) -> tuple[tuple[int, ...], float]:
    """Of all sequences of three, each item of each scored by a full forward of its own."""
    now = later(history)
    found: dict[tuple[int, ...], tuple[float, list[Event]]] = {(): (0.0, history.events)}
    for _ in range(3):
        longer: dict[tuple[int, ...], tuple[float, list[Event]]] = {}
        for items, (total, events) in found.items():
            oracle = Oracle(engine.network, History.of(events), now)
            left = [item for item in allowed if item not in items]
            scores = [oracle.score(item) for item in left]
            steps = torch.stack([score.retrieval for score in scores]).log_softmax(0).tolist()
            for item, score, step in zip(left, scores, steps, strict=True):
                action = int(engine.action_probabilities(score.actions).argmax()) + 1
                longer[*items, item] = (total + step, [*events, Event(item, action, now)])
        found = longer
    best = max(found, key=lambda items: found[items][0])
    return best, found[best][0]


def test_a_beam_that_keeps_everything_finds_the_best_sequence() -> None:
    engine = Engine(make_network(tiny_config(temperature=0.5)))
    allowed, found = (1, 4, 7, 11, 13), {}
    for width in (1, 20):
        for seed in range(8):
            history = random_history(9, seed=seed)
            beam = beam_of(engine, history, width, allowed)
            for _ in range(3):
                lengthen(engine, [beam])
            found[width, seed] = beam.picks
    for seed in range(8):
        best, total = best_by_oracles(engine, random_history(9, seed=seed), allowed)
        picks = found[20, seed]
        assert tuple(pick.item for pick in picks) == best
        assert sum(pick.log_probability for pick in picks) == pytest.approx(total, abs=5e-5)
    sequences = {key: [pick.item for pick in picks] for key, picks in found.items()}
    differ = [sequences[1, seed] != sequences[20, seed] for seed in range(8)]
    assert any(differ), "greedy is the best of all these: a beam of one would pass"


def test_branches_share_the_users_rows_and_leave_them_as_they_are(engine: Engine) -> None:
    history = random_history(40)  # a full page, and eight rows
    encoded = encode(engine, history, later(history))
    user = encoded.live
    assert user is not None
    before = [part.clone() for part in (*encoded.state.rows.read(), *user.rows.read())]
    beam = Beam(
        Prefix(user, engine.retrieve(user)), torch.ones(NUM_ITEMS, dtype=torch.bool), width=3
    )
    for _ in range(4):
        lengthen(engine, [beam])
    for branch in beam.branches:
        rows = branch.prefix.user.rows
        assert rows.num_rows == 43
        assert rows.pages[0] is user.rows.pages[0]
        assert rows.pages[1] is not user.rows.pages[1]
    assert_close((*encoded.state.rows.read(), *user.rows.read()), before, tolerance=0)


def test_a_branch_encodes_one_event(engine: Engine) -> None:
    history = random_history(40)
    user = encode(engine, history, later(history)).live
    for _ in range(3):
        assert user is not None
        [encoded] = engine.encode([engine.imagine(user, 3, 1)])
        assert (encoded.num_reused, encoded.num_encoded) == (user.num_events, 1)
        user = encoded.live


def test_users_in_one_pass_get_what_they_get_alone(engine: Engine) -> None:
    histories = [random_history(n, seed=n) for n in (0, 5, 33)]
    together = [beam_of(engine, history, 2) for history in histories]
    for _ in range(3):
        lengthen(engine, together)
    for history, beam in zip(histories, together, strict=True):
        alone = slate(engine, history, 2, 3)
        assert [pick.item for pick in beam.picks] == [pick.item for pick in alone]
        assert_close([p.logits for p in beam.picks], [p.logits for p in alone], tolerance=2e-6)


def test_items_that_run_out_end_the_sequence_and_nobody_elses(engine: Engine) -> None:
    few, none = beam_of(engine, random_history(7), 4, [2, 9]), beam_of(engine, EMPTY, 4, [])
    many = beam_of(engine, random_history(3), 4)
    for _ in range(4):
        lengthen(engine, [few, none, many])
    assert {pick.item for pick in few.picks} == {2, 9}
    assert none.picks == ()
    assert len({pick.item for pick in many.picks}) == 4


def test_ties_go_to_the_first_item() -> None:
    network = make_network(tiny_config())
    with torch.no_grad():
        network.retrieval.prior.fill_(-1.0)
    engine = Engine(network)
    assert slate(engine, EMPTY, width=1, length=1)[0].item == 0
