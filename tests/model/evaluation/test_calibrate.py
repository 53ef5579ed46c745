"""A calibration is fitted to what training held out, and to nothing that judges it."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from model.checkpoint import Checkpoint
from model.config import ActionTask, Window
from model.data.interactions import Interactions
from model.evaluation.calibrate import calibrate, fit
from model.evaluation.errors import EvaluationError
from model.evaluation.split import split
from model.history import Event
from tests.model.builders import make_network, random_events, tiny_config
from tests.model.training.data import interactions_of

RATING = ActionTask(name="rating", actions=("negative", "neutral", "positive"))
WATCH = ActionTask(name="watch", kind="multilabel", actions=("click", "finish"))
NUM_ITEMS = 19
NUM_EVENTS = 20_000


def data_of(*users: list[Event]) -> Interactions:
    return replace(interactions_of(users, NUM_ITEMS), tasks=(RATING,))


def checkpoint_of(data: Interactions, num_held_out: int = 2, **options: Any) -> Checkpoint:
    """As if trained on `data`."""
    config = tiny_config(tasks=(RATING,), window=Window(capacity=8, keep=5), num_layers=1)
    record: dict[str, object] = {
        "events": data.digest(),
        "options": {"num_held_out": num_held_out} | options,
        "start": None,
    }
    return Checkpoint("tiny", make_network(config), data.items, record)


def drawn(logits: torch.Tensor, seed: int) -> torch.Tensor:
    """An action of each row, by the probabilities that the logits mean."""
    generator = torch.Generator().manual_seed(seed)
    return torch.multinomial(logits.softmax(1), 1, generator=generator).flatten()


def test_what_was_distorted_is_set_right() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(NUM_EVENTS, 3, generator=generator)
    actions = 1 + drawn(0.5 * logits + torch.tensor([0.4, 0.0, -0.4]), seed=1)
    found = fit((RATING,), logits, actions)
    assert len(set(found.scale)) == 1
    assert found.scale[0] == pytest.approx(0.5, abs=0.03)
    assert found.bias[0] - found.bias[2] == pytest.approx(0.8, abs=0.06)


def test_each_task_is_fitted_to_its_own_events_and_one_without_stays() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(NUM_EVENTS, 5, generator=generator)
    actions = 4 + drawn(torch.tensor([[0.7, 0.0]]).expand(NUM_EVENTS, 2), seed=1)
    found = fit((RATING, WATCH), logits, actions)
    assert found.scale[:3] == (1.0,) * 3
    assert found.bias[:3] == (0.0,) * 3
    share = float((actions == 4).double().mean())
    rates = (logits[:, 3:] * torch.tensor(found.scale[3:]) + torch.tensor(found.bias[3:])).sigmoid()
    assert rates.mean(0).tolist() == pytest.approx([share, 1 - share], abs=0.01)


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_few_events_of_one_kind_leave_every_action_a_chance(kind: str) -> None:
    task = ActionTask.model_validate({"name": "t", "kind": kind, "actions": ("a", "b", "c")})
    logits = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    found = fit((task,), logits, torch.full((20,), 2))
    assert max(map(abs, found.bias)) < 5
    assert min(found.scale) > 0.01


def test_only_held_out_events_before_the_last_are_fitted_to() -> None:
    data = data_of(*(random_events(9, seed=seed) for seed in range(30)))
    checkpoint = checkpoint_of(data)
    found = calibrate(checkpoint, data, 1, lambda _done, _total: None)
    known = [data.history(user).events[-2].action > 0 for user in range(30)]
    assert (found.num_events, found.num_users) == (sum(known), sum(known))
    assert checkpoint.calibration is None
    other = data.action.clone()
    other[data.offsets[1:] - 1] = 1 + other[data.offsets[1:] - 1] % 3
    changed = replace(data, action=other)
    again = calibrate(checkpoint_of(changed), changed, 1, lambda _done, _total: None)
    assert again.calibration == found.calibration
    assert again.after != found.after


def test_a_checkpoint_that_is_calibrated_is_fitted_anew() -> None:
    data = data_of(*(random_events(9, seed=seed) for seed in range(30)))
    checkpoint = checkpoint_of(data)
    found = calibrate(checkpoint, data, 1, lambda _done, _total: None)
    checkpoint.network.calibration = found.calibration
    assert calibrate(checkpoint, data, 1, lambda _done, _total: None) == found


def test_parts_are_what_was_seen_then_what_was_held_out_then_what_judges() -> None:
    times = (1, 2, 3, 4, 5, 5, 5)
    tied = [Event(item, 1, time) for item, time in enumerate(times)]
    data = data_of(tied, [Event(3, 1, 9)], [Event(0, 1, 1), Event(1, 1, 2)])
    found = split(checkpoint_of(data, hold_out="ties"), data, 1)
    assert [len(history) for history in found.training] == [4, 0, 0]
    assert found.validation.users == [0, 0]
    assert [h.events[-1] for h in found.validation.histories] == tied[4:6]
    assert found.test.users == [0, 2]
    assert [h.events for h in found.test.histories] == [tied, [Event(0, 1, 1), Event(1, 1, 2)]]
    several = split(checkpoint_of(data, num_held_out=4), data, 2)
    assert [h.events[-1] for h in several.validation.histories] == tied[3:5]
    assert [h.events[-1].item for h in several.test.histories] == [5, 6, 1]


@pytest.mark.parametrize(
    ("num_held_out", "num_targets", "message"),
    [
        (1, 1, "none is left to fit on: train it with --num-held-out 2"),
        (2, 3, "trained on some of the last 3 events .* higher --num-held-out"),
        (2, 2, "none is left to fit on"),
    ],
)
def test_no_event_that_judges_is_fitted_to(
    num_held_out: int, num_targets: int, message: str
) -> None:
    data = data_of(*(random_events(9, seed=seed, start=1000 * seed) for seed in range(3)))
    with pytest.raises(EvaluationError, match=message):
        split(checkpoint_of(data, num_held_out), data, num_targets)


def test_what_it_was_started_from_counts_as_seen() -> None:
    data = data_of(random_events(9))
    checkpoint = checkpoint_of(data)
    first = checkpoint_of(data, num_held_out=1).training
    started = replace(checkpoint, training=checkpoint.training | {"start": first})
    with pytest.raises(EvaluationError, match="none is left"):
        split(started, data, 1)


def test_other_data_and_a_model_without_actions_are_refused() -> None:
    data = data_of(random_events(9))
    with pytest.raises(EvaluationError, match="does not say that it was trained on this data"):
        split(checkpoint_of(data), data_of(random_events(9, seed=1)), 1)
    retrieval = make_network(tiny_config(tasks=(), value={}))
    silent = replace(checkpoint_of(data), network=retrieval)
    with pytest.raises(EvaluationError, match="predicts no actions"):
        calibrate(silent, data, 1, lambda _done, _total: None)
