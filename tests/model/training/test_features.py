"""What items share is learned in rows of its own, and served as a part of theirs."""

from pathlib import Path

import pytest
import torch

from model.checkpoint import load
from model.data.interactions import Interactions
from model.evaluation.leave_one_out import predict
from model.items import Items
from model.network.hstu import HSTU
from model.training.features import FeatureError, Shared, share, summed
from model.training.options import TrainingOptions
from model.training.trainer import Trainer
from tests.model.builders import assert_close
from tests.model.training.test_trainer import (
    CONFIG,
    DATA,
    NUM_ITEMS,
    assert_same_parameters,
    options,
    reports_of,
)

GENRES = ["Drama", "Drama|War", "", "War|Comedy|War"]


def described(column: str = "genres") -> Items:
    rows = DATA.items.rows
    return Items([row | {column: GENRES[n % len(GENRES)]} for n, row in enumerate(rows)])


def with_genres(run: Path, **overrides: object) -> Trainer:
    data = Interactions(
        described(), DATA.user_ids, DATA.offsets, DATA.item, DATA.action, DATA.timestamp, DATA.tasks
    )
    return Trainer(CONFIG, options(item_features="genres", **overrides), data, run)


def test_an_item_is_its_own_row_and_the_mean_of_its_features() -> None:
    shared = Shared([["a"], ["a", "b"], [], ["c"]], width=2)
    assert shared.names == ["a", "b", "c"]
    own = torch.arange(8.0).reshape(4, 2)
    assert torch.equal(shared(own), own)
    with torch.no_grad():
        shared.rows.copy_(torch.tensor([[1.0, 2.0], [3.0, 6.0], [5.0, 5.0]]))
    added = torch.tensor([[1.0, 2.0], [2.0, 4.0], [0.0, 0.0], [5.0, 5.0]])
    assert torch.equal(shared(own), own + added)


def test_while_training_some_items_have_their_features_alone() -> None:
    shared = Shared([["a"]] * 1000, width=2, dropout=0.8)
    with torch.no_grad():
        shared.rows.fill_(1.0)
    own = torch.ones(1000, 2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = shared(own), shared(own)
    assert torch.equal(first.unique(), torch.tensor([1.0, 2.0]))
    assert torch.equal(first[:, 0], first[:, 1])  # a row goes as a whole
    assert 150 < int((first[:, 0] == 2).sum()) < 250
    assert not torch.equal(first, second)
    assert torch.equal(shared.eval()(own), own + 1)


def test_items_without_features_can_not_be_dropped() -> None:
    with pytest.raises(ValueError, match="needs item_features"):
        options(item_dropout=0.5)


def test_the_sums_are_what_is_kept(tmp_path: Path) -> None:
    training = with_genres(tmp_path / "run")
    reports_of(training)
    (shared,) = [m for m in training.network.modules() if isinstance(m, Shared)]
    assert shared.names == ["Comedy", "Drama", "War"]
    assert bool(shared.rows.abs().sum(1).gt(0).all())
    cases = training.held_out("test")
    before = predict(training.network, cases)
    training.finish("genres", tmp_path / "checkpoint", "made up", select="last")
    kept = load(tmp_path / "checkpoint")
    assert set(kept.network.state_dict()) == set(HSTU(CONFIG).state_dict())
    assert torch.equal(kept.network.items.weight, training.network.items.weight)
    after = predict(kept.network, cases)
    assert_close([after.ranks, after.probabilities], [before.ranks, before.probabilities], 0)


def test_a_stopped_run_continues_with_the_same_features(tmp_path: Path) -> None:
    more = {"averaging": 0.9, "item_dropout": 0.5}
    whole = with_genres(tmp_path / "whole", **more)
    reports_of(whole)
    parts = iter(with_genres(tmp_path / "parts", **more).train(lambda _done, _total: None))
    next(parts)
    resumed = with_genres(tmp_path / "parts", **more)
    assert resumed.epoch == 1
    reports_of(resumed)
    assert_same_parameters(whole, resumed)


def test_without_features_nothing_is_summed() -> None:
    network = HSTU(CONFIG)
    assert summed(network) is network
    share(network, described(), "genres")
    alone = summed(network)
    assert alone is not network
    assert torch.equal(alone.items.weight, network.items.weight)


@pytest.mark.parametrize("column", ["year", "item_id"])
def test_a_column_that_is_not_there_is_named_beside_those_that_are(column: str) -> None:
    with pytest.raises(FeatureError, match=rf"no {column} .*there is .*genres"):
        share(HSTU(CONFIG), described(), column)
    with pytest.raises(FeatureError, match="nothing but their ids"):
        share(HSTU(CONFIG), Items([{"item_id": str(n)} for n in range(NUM_ITEMS)]), column)


def test_it_is_a_part_of_what_a_run_is() -> None:
    assert TrainingOptions().identity["item_features"] is None
