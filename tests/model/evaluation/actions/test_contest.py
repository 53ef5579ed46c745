"""Baselines learn what they can, and the contest judges all by the same events."""

from dataclasses import replace

import pytest
import torch

from model.config import ActionTask
from model.data.interactions import Interactions
from model.evaluation.actions.answers import Answers, answers
from model.evaluation.actions.baseline import Baseline, Lessons
from model.evaluation.actions.biases import item_mean, user_and_item_bias
from model.evaluation.actions.contest import CANDIDATE_ROW, contest
from model.evaluation.actions.late_head import late_head
from model.evaluation.errors import EvaluationError
from model.evaluation.evaluate import evaluate
from model.evaluation.protocols import PROTOCOLS
from tests.model.builders import make_network, random_events, random_history, tiny_config
from tests.model.evaluation.test_calibrate import checkpoint_of, data_of

NUM_USERS, NUM_ITEMS, NUM_ACTIONS, WIDTH = 20, 12, 3, 4


def events_of(favourite: torch.Tensor, seed: int, count: int = 20_000) -> Answers:
    """Of any user and item; the action is mostly the favourite of the two (users, items)."""
    generator = torch.Generator().manual_seed(seed)
    users = torch.randint(NUM_USERS, (count,), generator=generator)
    items = torch.randint(NUM_ITEMS, (count,), generator=generator)
    odd = torch.rand(count, generator=generator) < 0.1
    actions = 1 + torch.where(odd, 0, favourite[users, items])
    table = torch.randn(NUM_USERS, WIDTH, generator=torch.Generator().manual_seed(9))
    return Answers(users, items, actions, table[users], torch.zeros(count, NUM_ACTIONS))


def lessons_of(favourite: torch.Tensor) -> Lessons:
    items = torch.randn(NUM_ITEMS, WIDTH, generator=torch.Generator().manual_seed(8))
    training, validation = events_of(favourite, 0), events_of(favourite, 1)
    return Lessons(training, validation, NUM_USERS, NUM_ACTIONS, items)


def right(baseline: Baseline, favourite: torch.Tensor) -> float:
    test = events_of(favourite, 2)
    return float((baseline(test).argmax(1) == favourite[test.users, test.items]).double().mean())


def test_each_baseline_learns_what_it_can_see() -> None:
    by_item = (torch.arange(NUM_ITEMS) % 3).expand(NUM_USERS, -1)
    by_user = (torch.arange(NUM_USERS) % 3)[:, None].expand(-1, NUM_ITEMS)
    by_both = (torch.arange(NUM_USERS)[:, None] + torch.arange(NUM_ITEMS)) % 3
    assert right(item_mean(lessons_of(by_item)), by_item) == 1.0
    assert right(item_mean(lessons_of(by_user)), by_user) < 0.6
    assert right(user_and_item_bias(lessons_of(by_user)), by_user) == 1.0
    assert right(user_and_item_bias(lessons_of(by_both)), by_both) < 0.6
    head = late_head(lessons_of(by_both), lambda _done, _total: None)
    assert right(head, by_both) > 0.65


def test_an_item_without_events_is_like_all_of_them() -> None:
    lessons = lessons_of(torch.zeros(NUM_USERS, NUM_ITEMS, dtype=torch.int64))
    wider = replace(lessons, items=torch.zeros(NUM_ITEMS + 1, WIDTH))
    asked = replace(lessons.validation, items=torch.full((20_000,), NUM_ITEMS))
    assert item_mean(wider)(asked)[0].exp().tolist() == pytest.approx([1, 0, 0], abs=1e-3)


def test_a_late_head_is_the_same_each_time() -> None:
    lessons = lessons_of((torch.arange(NUM_ITEMS) % 3).expand(NUM_USERS, -1))
    found = [late_head(lessons, lambda _done, _total: None)(lessons.validation) for _ in range(2)]
    assert torch.equal(*found)


def test_answers_are_those_of_each_history_alone() -> None:
    network = make_network(tiny_config())
    histories = [random_history(count, seed=count) for count in (9, 2, 5)]
    whole = answers(network, [4, 5, 6], histories, lambda _done, _total: None, only_last=False)
    asked = [
        (4 + n, event) for n, h in enumerate(histories) for event in h.events[1:] if event.action
    ]
    found = zip(whole.users.tolist(), whole.items.tolist(), whole.actions.tolist(), strict=True)
    assert sorted(found) == sorted((user, event.item, event.action) for user, event in asked)
    for user, history in zip((4, 5, 6), histories, strict=True):
        if not history.events[-1].action:
            continue
        alone = answers(network, [user], [history], lambda _done, _total: None)
        (place,) = [
            n for n, own in enumerate((whole.logits - alone.logits).abs().amax(1)) if own < 1e-5
        ]
        assert int(whole.users[place]) == user
        torch.testing.assert_close(whole.rows[place], alone.rows[0], rtol=0, atol=1e-5)


@pytest.fixture
def data() -> Interactions:
    return data_of(*(random_events(12, seed=seed) for seed in range(40)))


def test_all_are_judged_by_the_same_events(data: Interactions) -> None:
    checkpoint = checkpoint_of(data, num_held_out=4)
    steps: list[str] = []
    found = contest(checkpoint, data, 2, lambda what, _done, _total: steps.append(what))
    last = [data.history(user, -2).events for user in range(40)]
    assert found.num_test == sum(event.action > 0 for events in last for event in events)
    assert found.num_users == sum(any(event.action for event in events) for events in last)
    assert set(found.contenders) == {CANDIDATE_ROW, "late head", "user and item bias", "item mean"}
    first = found.contenders[CANDIDATE_ROW]
    assert (first.entropy_gap.value, first.entropy_gap.error) == (0.0, 0.0)
    for each in found.contenders.values():
        assert each.quality.num_events == found.num_test
        gap = each.quality.cross_entropy - first.quality.cross_entropy
        assert each.entropy_gap.value == pytest.approx(gap)
        for name, quality in each.quality.actions.items():
            estimate, own = each.auc_gaps[name], first.quality.actions[name].auc
            assert estimate is not None
            assert own is not None
            assert quality.auc is not None
            assert estimate.value == pytest.approx(own - quality.auc)
    assert {"training events", "validation events", "test events", "late head"} == set(steps)


def test_the_candidate_row_is_what_an_evaluation_measures(data: Interactions) -> None:
    checkpoint = checkpoint_of(data)
    found = contest(checkpoint, data, 1, lambda *_: None).contenders[CANDIDATE_ROW].uncalibrated
    evaluated = evaluate(checkpoint, data, PROTOCOLS["rectools"]).tasks["rating"]
    assert found.cross_entropy == pytest.approx(evaluated.cross_entropy, abs=1e-5)
    assert found.num_events == evaluated.num_events


def test_several_tasks_are_refused(data: Interactions) -> None:
    checkpoint = checkpoint_of(data)
    tasks = (
        ActionTask(name="rating", actions=("negative", "positive")),
        ActionTask(name="watch", actions=("finish",)),
    )
    network = make_network(tiny_config(tasks=tasks, value={}))
    with pytest.raises(EvaluationError, match="one task of which exactly one action happens"):
        contest(replace(checkpoint, network=network), data, 1, lambda *_: None)
