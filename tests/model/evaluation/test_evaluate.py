"""A protocol's switches do what they say, and data meets a checkpoint by ids and names."""

from typing import Any

import pytest
import torch

from model.checkpoint import Checkpoint
from model.config import ActionTask, Window
from model.data.interactions import Interactions
from model.evaluation.errors import EvaluationError
from model.evaluation.evaluate import Evaluation, evaluate
from model.evaluation.leave_one_out import Case, predict
from model.evaluation.metrics import ranking_metrics
from model.evaluation.protocols import PROTOCOLS, Protocol
from model.history import Event, History
from model.items import Items
from tests.model.builders import make_network, tiny_config
from tests.model.training.data import interactions_of

NUM_ITEMS = 12
USERS = [
    [Event(item, 1 + item % 3, second) for item, second in enumerate((1, 2, 3, 5, 5, 5, 8))],
    [Event(9, 1, 4), Event(8, 2, 4), Event(7, 0, 4)],
    [Event(3, 1, 9)],
]
TASKS = (ActionTask(name="rating", actions=("negative", "neutral", "positive")),)


def data_of(users: list[list[Event]] = USERS, **changes: Any) -> Interactions:
    made = interactions_of(users, NUM_ITEMS)
    fields = {name: getattr(made, name) for name in ("items", "user_ids", "offsets")}
    columns = {name: getattr(made, name) for name in ("item", "action", "timestamp")}
    return Interactions(**(fields | columns | {"tasks": TASKS, "num_listed": 20} | changes))


def checkpoint_of(ids: list[str], **training: object) -> Checkpoint:
    config = tiny_config(
        len(ids), tasks=TASKS, value={}, window=Window(capacity=4, keep=3), dropout=0.0
    )
    items = Items([{"item_id": item_id} for item_id in ids])
    return Checkpoint("tiny", make_network(config), items, dict(training))


ALL = [f"i{n}" for n in range(NUM_ITEMS)]


def protocol(**changes: Any) -> Protocol:
    return PROTOCOLS["rectools"].model_copy(update=changes)


def cases(
    monkeypatch: pytest.MonkeyPatch, chosen: Protocol, ids: list[str] = ALL, **data: Any
) -> tuple[list[Case], list[int], Evaluation]:
    """What was predicted, which items were left out of the ranking, and the outcome."""
    seen: list[tuple[list[Case], list[int]]] = []

    def spy(network: Any, given: Any, *, unranked: torch.Tensor, **more: Any) -> Any:
        seen.append((given, unranked.tolist()))
        return predict(network, given, unranked=unranked, **more)

    monkeypatch.setattr("model.evaluation.evaluate.predict", spy)
    found = evaluate(checkpoint_of(ids), data_of(**data), chosen)
    return (*seen[0], found)


def test_the_last_event_is_predicted_from_those_before(monkeypatch: pytest.MonkeyPatch) -> None:
    given, unranked, found = cases(monkeypatch, protocol())
    assert [case.history.events for case in given] == USERS[:2]
    assert [case.masked.tolist() for case in given] == [list(range(6)), [9, 8]]
    assert unranked == []
    assert (found.num_users, found.num_candidates, found.unknown_candidates) == (2, NUM_ITEMS, 0)
    assert set(found.tasks) == {"rating"}
    assert found.tasks["rating"].num_events == 1  # the other target has no action


def test_several_last_events_are_each_predicted_from_those_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given, _, found = cases(monkeypatch, protocol(num_targets=3))
    expected = [USERS[0][:5], USERS[0][:6], USERS[0], USERS[1][:2], USERS[1]]
    assert [case.history.events for case in given] == expected
    assert (found.num_users, found.num_targets) == (2, 5)


def test_trained_targets_are_counted_one_by_one() -> None:
    data = data_of()
    checkpoint = checkpoint_of(ALL, events=data.digest(), options={"num_held_out": 1})
    assert evaluate(checkpoint, data, protocol(num_targets=3)).trained_targets == 3


@pytest.mark.parametrize(
    ("mask", "masked"), [("full", list(range(6))), ("window", [2, 3, 4, 5]), ("none", [])]
)
def test_masks(monkeypatch: pytest.MonkeyPatch, mask: str, masked: list[int]) -> None:
    assert cases(monkeypatch, protocol(mask=mask))[0][0].masked.tolist() == masked


@pytest.mark.parametrize("window", [1, 3, 6])
def test_the_model_sees_as_many_events_as_the_protocol_says(window: int) -> None:
    checkpoint = checkpoint_of(ALL)
    cut = [History.of(events[-window - 1 :]) for events in USERS[:2]]
    alone = predict(checkpoint.network, [Case(each, torch.arange(0)) for each in cut], window=6)
    found = evaluate(checkpoint, data_of(), protocol(window=window, mask="none"))
    assert found.metrics == ranking_metrics(alone.ranks)


def test_a_served_window_may_hold_fewer_events_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    given, _, _ = cases(monkeypatch, protocol(anchored=True, mask="window", num_targets=2))
    assert given[0].history.events == USERS[0][2:6]  # three are seen, though four would fit
    assert given[0].masked.tolist() == [2, 3, 4]
    assert given[1].history.events == USERS[0][2:]
    assert given[2].history.events == USERS[1][:2]


def test_a_window_past_the_position_table_is_refused() -> None:
    placed = tiny_config(NUM_ITEMS, tasks=TASKS, value={}, positions="start", max_positions=65)
    items = Items([{"item_id": item_id} for item_id in ALL])
    checkpoint = Checkpoint("placed", make_network(placed), items)
    evaluate(checkpoint, data_of(), protocol(window=64))
    with pytest.raises(EvaluationError, match="65 positions"):
        evaluate(checkpoint, data_of(), protocol(window=65))


def test_the_request_may_know_the_time_of_the_newest_event_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = data_of()
    given, _, _ = cases(monkeypatch, protocol(query_time="last_event"))
    assert given[0].history.timestamps.tolist() == [1, 2, 3, 5, 5, 5, 5]
    assert torch.equal(data.timestamp, data_of().timestamp)


def test_a_shuffled_order_changes_tied_events_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = set()
    for seed in range(30):
        with monkeypatch.context() as patch:
            given, _, _ = cases(patch, protocol(sort="shuffled", seed=seed))
        assert given[0].history.items.tolist()[-1] == 6
        assert sorted(given[0].history.items.tolist()[3:6]) == [3, 4, 5]
        targets.add(int(given[1].history.items[-1]))
    assert targets == {7, 8, 9}


def test_items_without_an_event_are_candidates_only_where_listed_ones_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    more = [*ALL, "unrated"]
    assert cases(monkeypatch, protocol(), more)[1] == [NUM_ITEMS]
    monkeypatch.undo()
    _, unranked, found = cases(monkeypatch, protocol(candidates="listed"), more)
    assert unranked == []
    assert (found.num_candidates, found.unknown_candidates) == (20, 8)


def test_items_that_the_checkpoint_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a history they are left out; as a target they are a miss."""
    given, _, found = cases(monkeypatch, protocol(), ["i8", *ALL[:7]])
    assert given[0].history.items.tolist() == [1, 2, 3, 4, 5, 6, 7]  # another order
    assert [case.known for case in given] == [True, False]
    assert found.unknown_targets == 1
    assert found.metrics["HR@200"] == 0.5


def test_actions_meet_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    other = (ActionTask(name="r", actions=("positive", "unheard", "negative")),)
    given, _, _ = cases(monkeypatch, protocol(), tasks=other)
    assert [event.action for event in given[0].history.events] == [3, 0, 1, 3, 0, 1, 3]


def test_short_users_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(cases(monkeypatch, protocol(min_events=4))[0]) == 1
    with pytest.raises(EvaluationError, match="no user has 9 events"):
        evaluate(checkpoint_of(ALL), data_of(), protocol(min_events=9))


def test_data_of_another_catalogue_is_refused() -> None:
    with pytest.raises(EvaluationError, match=r"none of the data's 12 items .*'x'.*'i0'"):
        evaluate(checkpoint_of(["x"]), data_of(), protocol())


@pytest.mark.parametrize(
    ("hold_out", "sort", "some"),
    [("events", "stable", False), ("events", "shuffled", True), ("ties", "shuffled", False)],
)
def test_targets_that_training_saw_are_counted(hold_out: str, sort: str, some: bool) -> None:
    data = data_of()
    checkpoint = checkpoint_of(ALL, events=data.digest(), options={"hold_out": hold_out})
    counts = [
        evaluate(checkpoint, data, protocol(sort=sort, seed=seed)).trained_targets
        for seed in range(12)
    ]
    assert None not in counts
    assert any(counts) == some


@pytest.mark.parametrize(
    ("start", "some"), [("events", True), ("ties", False), ("elsewhere", None)]
)
def test_what_the_run_started_from_counts_as_well(start: str, some: bool | None) -> None:
    data = data_of()
    before = {
        "events": data.digest() if start != "elsewhere" else "",
        "options": {"hold_out": start},
    }
    own = {"hold_out": "ties", "num_held_out": 1}
    checkpoint = checkpoint_of(ALL, events=data.digest(), options=own, start=before)
    counts = [
        evaluate(checkpoint, data, protocol(sort="shuffled", seed=seed)).trained_targets
        for seed in range(12)
    ]
    assert (None if None in counts else any(counts)) == some


def test_without_the_training_data_nothing_is_known_of_it() -> None:
    checkpoint = checkpoint_of(ALL, events="other", options={"hold_out": "ties"})
    assert evaluate(checkpoint, data_of(), protocol()).trained_targets is None


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_runs(name: str) -> None:
    assert 0 <= evaluate(checkpoint_of(ALL), data_of(), PROTOCOLS[name]).metrics["HR@10"] <= 1
