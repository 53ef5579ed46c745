"""Training learns, stops in time, continues where it stopped, and ends in a checkpoint."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from model.checkpoint import load
from model.config import Window
from model.data.interactions import Interactions
from model.history import Event
from model.network.hstu import HSTU
from model.training import curve
from model.training.curve import EpochReport
from model.training.options import TrainingOptions
from model.training.processes import Processes
from model.training.run_folder import RunError
from model.training.trainer import Trainer
from tests.model.builders import assert_close, random_events, tiny_config
from tests.model.training.data import cycling_users, interactions_of

NUM_ITEMS = 30
WINDOW = Window(capacity=6, keep=4)
CONFIG = tiny_config(NUM_ITEMS, num_layers=2, norm_eps=1e-6, dropout=0.1, window=WINDOW)
DATA = interactions_of(cycling_users(24, 12, NUM_ITEMS), NUM_ITEMS)


def options(**overrides: Any) -> TrainingOptions:
    fields = {"epochs": 3, "batch_users": 8, "learning_rate": 0.01}
    return TrainingOptions.model_validate(fields | overrides)


def trainer(run: Path, data: Interactions = DATA, **overrides: Any) -> Trainer:
    return Trainer(CONFIG, options(**overrides), data, run)


def ignore(_done: int, _total: int) -> None:
    pass


def reports_of(training: Trainer) -> list[EpochReport]:
    return list(training.train(ignore))


def assert_same_parameters(first: Trainer, second: Trainer) -> None:
    assert_same_weights(first.network, second.network)


def assert_same_weights(first: HSTU, second: HSTU) -> None:
    tensors, others = first.state_dict(), second.state_dict()
    assert_close(list(tensors.values()), list(others.values()), tolerance=0)


def test_a_pattern_is_learnt(tmp_path: Path) -> None:
    training = trainer(tmp_path, epochs=8)
    untrained = training._figures(training.held_out("validation"))
    reports = reports_of(training)
    assert [report.epoch for report in reports] == list(range(1, 9))
    assert reports[-1].loss < 0.4 * reports[0].loss
    assert untrained["NDCG@10"] < 0.6
    assert reports[-1].validation["NDCG@10"] > 0.9
    assert reports[-1].validation["action_nll"] < 0.3 < untrained["action_nll"]


def test_progress_counts_the_batches_of_an_epoch(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    for _ in trainer(tmp_path, epochs=2).train(lambda done, total: steps.append((done, total))):
        pass
    # 24 users with windows of 7 and 4 events: 48 windows
    assert steps == [(done, 6) for done in range(1, 7)] * 2


@pytest.mark.parametrize(("stopped_after", "averaging"), [(1, 0.0), (2, 0.9), (3, 0.0)])
def test_a_stopped_run_continues_with_the_numbers_it_would_have_had(
    tmp_path: Path, stopped_after: int, averaging: float
) -> None:
    whole = trainer(tmp_path / "whole", epochs=4, averaging=averaging)
    expected = reports_of(whole)
    first = trainer(tmp_path / "stopped", epochs=4, averaging=averaging)
    epochs = first.train(ignore)
    reports = [next(epochs) for _ in range(stopped_after)]
    torch.rand(7)  # whatever else happened in between
    second = trainer(tmp_path / "stopped", epochs=4, averaging=averaging)
    assert second.epoch == stopped_after
    reports += reports_of(second)
    assert reports == expected
    assert_same_parameters(second, whole)
    assert (second.best, second.best_epoch) == (whole.best, whole.best_epoch)
    checkpoints = [run.finish("toy", tmp_path / "out", "toy") for run in (second, whole)]
    assert_same_weights(*(checkpoint.network for checkpoint in checkpoints))


def test_the_average_is_validated_and_written_and_trains_nothing(tmp_path: Path) -> None:
    plain, averaged = trainer(tmp_path / "plain"), trainer(tmp_path / "mean", averaging=0.9)
    weights: list[list[Tensor]] = []

    def remember(_done: int, _total: int) -> None:
        weights.append([parameter.detach().clone() for parameter in averaged.network.parameters()])

    figures = [list(plain.train(ignore)), list(averaged.train(remember))]
    assert [report.loss for report in figures[0]] == [report.loss for report in figures[1]]
    assert figures[0] != figures[1]
    assert_same_parameters(plain, averaged)
    expected = weights[0]
    for step in weights[1:]:
        expected = [0.9 * mean + 0.1 * now for mean, now in zip(expected, step, strict=True)]
    written = averaged.finish("toy", tmp_path / "out", "toy", select="last").network
    assert_close(list(written.parameters()), expected)


def test_a_run_killed_while_it_saved_continues_from_the_epoch_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trainer(tmp_path / "whole")
    reports_of(whole)
    epochs = trainer(tmp_path / "killed").train(ignore)
    next(epochs)

    def killed(_tensors: object, path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("model.training.run_folder.save_file", killed)
        with pytest.raises(KeyboardInterrupt):
            next(epochs)
    resumed = trainer(tmp_path / "killed")
    assert resumed.epoch == 1
    reports_of(resumed)
    assert_same_parameters(resumed, whole)


def test_a_finished_run_has_nothing_left_to_do_until_it_may_go_on(tmp_path: Path) -> None:
    reports_of(trainer(tmp_path / "run", epochs=2))
    assert reports_of(trainer(tmp_path / "run", epochs=2)) == []
    longer = trainer(tmp_path / "run", epochs=3, patience=7)
    assert [report.epoch for report in reports_of(longer)] == [3]
    whole = trainer(tmp_path / "whole", epochs=3)
    reports_of(whole)
    assert_same_parameters(longer, whole)


@pytest.mark.parametrize("patience", [1, 3])
def test_training_stops_when_validation_no_longer_improves(tmp_path: Path, patience: int) -> None:
    reports = reports_of(trainer(tmp_path, epochs=20, patience=patience, learning_rate=1e-30))
    assert [report.improved for report in reports] == [True] + [False] * patience


def test_the_best_epoch_becomes_the_checkpoint(tmp_path: Path) -> None:
    training = trainer(tmp_path / "run", epochs=8, learning_rate=0.03)
    best: dict[str, torch.Tensor] = {}
    improved = 0
    for report in training.train(ignore):
        if report.improved:
            improved = report.epoch
            best = {name: t.clone() for name, t in training.network.state_dict().items()}
    assert 1 < improved < 8
    finished = training.finish("toy", tmp_path / "out", "toy.zip")
    loaded = load(tmp_path / "out")
    assert loaded.name == "toy"
    assert loaded.digests() == finished.digests()
    assert loaded.items.ids == DATA.items.ids
    assert loaded.config == CONFIG
    assert_close(list(loaded.network.state_dict().values()), list(best.values()), tolerance=0)
    record = loaded.training
    assert record["data"] == "toy.zip"
    assert record["epoch"] == f"{improved}, best validation NDCG@10"
    assert record["options"] == training._options.model_dump()
    assert record["events"] == DATA.digest()
    test = training._figures(training.held_out("test"))
    assert record["test"] == test


def test_the_prior_is_the_share_of_training_events(tmp_path: Path) -> None:
    training = trainer(tmp_path)
    seen = DATA.without_last(2).log_shares()
    assert torch.equal(training.network.retrieval.prior, seen)
    reports_of(training)
    assert torch.equal(training.network.retrieval.prior, seen)


def test_the_last_two_events_are_held_out(tmp_path: Path) -> None:
    """Of users who have events besides; and no training window holds either of them."""
    users = [random_events(length, seed=length) for length in (2, 3, 9, 0)]
    training = trainer(tmp_path, interactions_of(users, NUM_ITEMS))
    tests, validations = training.held_out("test"), training.held_out("validation")
    assert [case.history.events for case in tests] == [users[1], users[2]]
    assert [case.history.events for case in validations] == [users[1][:-1], users[2][:-1]]
    assert all(torch.equal(c.masked, c.history.items[:-1]) for c in tests + validations)
    windows = [event for window in training._windows() for event in window.events]
    assert set(windows) == set(users[2][:-2])
    whole = trainer(tmp_path, interactions_of(users, NUM_ITEMS), exclude_seen=False)
    assert not any(len(case.masked) for case in whole.held_out("validation"))


@pytest.mark.parametrize(
    ("other", "key"),
    [
        ({"learning_rate": 0.02}, "options"),
        ({"seed": 1}, "options"),
        ({"batch_users": 9}, "options"),
        ({"data": interactions_of(cycling_users(23, 12, NUM_ITEMS), NUM_ITEMS)}, "events"),
    ],
)
def test_a_folder_of_another_run_is_refused(
    tmp_path: Path, other: dict[str, Any], key: str
) -> None:
    next(trainer(tmp_path / "run").train(ignore))
    before = load_file(tmp_path / "run" / "state.safetensors")
    with pytest.raises(RunError, match=rf"{tmp_path / 'run'} holds a run with another {key}"):
        trainer(tmp_path / "run", **other)
    after = load_file(tmp_path / "run" / "state.safetensors")
    assert_close(list(after.values()), list(before.values()), tolerance=0)


def test_processes_that_can_not_share_a_step_evenly_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"3 parts .* choose a multiple of 2 for --accumulate"):
        Trainer(CONFIG, options(accumulate=3), DATA, tmp_path, Processes(count=2))


def test_the_learning_rate_falls_to_nothing_over_the_epochs(tmp_path: Path) -> None:
    """And so the number of epochs can not change on the way."""
    training = trainer(tmp_path, epochs=2, decay="linear")
    rates = []
    for _ in training.train(
        lambda _done, _total: rates.append(training._optimizer.param_groups[0]["lr"])
    ):
        pass
    assert rates == pytest.approx([0.01 * left / 12 for left in range(12, 0, -1)])
    with pytest.raises(RunError, match="another options"):
        trainer(tmp_path, epochs=3, decay="linear")


def test_actions_are_trained_every_so_many_steps(tmp_path: Path) -> None:
    training = trainer(tmp_path, action_every=3, epochs=1)
    asked: list[bool] = []
    training._objective.register_forward_pre_hook(lambda _module, args: asked.append(args[2]))
    reports_of(training)
    assert asked == [True, False, False] * 2


def test_tied_events_are_shuffled_anew_in_every_epoch(tmp_path: Path) -> None:
    users = [
        [event._replace(timestamp=7) for event in user[:9]] for user in cycling_users(40, 9, 30)
    ]
    later = [[*user, Event(0, 1, 8), Event(1, 1, 9)] for user in users]
    training = trainer(tmp_path, interactions_of(later, NUM_ITEMS), shuffle_ties=0.5)
    stable = [h.items.tolist() for h in training._seen.histories()]
    windows = [[w.items.tolist() for w in training._windows()]]
    training.epoch = 1
    windows.append([w.items.tolist() for w in training._windows()])
    assert windows[0] != windows[1]
    kept = sum(stable[user][-7:] in windows[0] for user in range(len(users)))
    assert 8 < kept < 32


def test_other_events_are_left_out_in_every_epoch(tmp_path: Path) -> None:
    training = trainer(tmp_path, drop_events=0.5)
    whole = training._seen.histories()
    windows = [training._windows()]
    training.epoch = 1
    windows.append(training._windows())
    left = [[window.events for window in epoch] for epoch in windows]
    assert left[0] != left[1]
    assert 0.4 < sum(map(len, left[0])) / sum(map(len, whole)) < 0.6


def test_it_is_learnt_whether_things_come_again(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"repeat_bias": True})
    always = [
        [Event((user + place**2 % 4) % NUM_ITEMS, 1, 60 * place) for place in range(12)]
        for user in range(24)
    ]
    learnt = []
    for name, data in (("never", DATA), ("always", interactions_of(always, NUM_ITEMS))):
        training = Trainer(config, options(epochs=3), data, tmp_path / name)
        reports_of(training)
        repeat = training.network.retrieval.repeat
        assert repeat is not None
        learnt.append(repeat.item())
    assert learnt[0] < 0 < learnt[1]


def test_a_resumed_run_keeps_the_record_of_its_epochs(tmp_path: Path) -> None:
    first = trainer(tmp_path, epochs=2)
    done = reports_of(first)
    lost = (tmp_path / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").write_text(lost + lost.splitlines()[-1] + "\n")  # not yet saved
    second = trainer(tmp_path, epochs=3)
    assert second.reports == done
    done += reports_of(second)
    assert curve.read(tmp_path, 9) == done


def test_patience_is_counted_where_there_is_a_validation(tmp_path: Path) -> None:
    reports = reports_of(
        trainer(tmp_path, epochs=20, patience=2, validate_every=3, learning_rate=1e-30)
    )
    assert [report.improved for report in reports] == [False, False, True, False, False, False]
    again = trainer(tmp_path, epochs=20, patience=2, validate_every=3, learning_rate=1e-30)
    assert reports_of(again) == []
    assert [bool(report.validation) for report in reports] == [False, False, True] * 2


def test_the_last_epoch_is_validated(tmp_path: Path) -> None:
    training = trainer(tmp_path / "run", epochs=2, validate_every=5)
    assert [bool(report.validation) for report in reports_of(training)] == [False, True]
    record = training.finish("toy", tmp_path / "out", "toy").training
    assert record["epoch"] == "2, best validation NDCG@10"


def test_the_last_epoch_can_become_the_checkpoint(tmp_path: Path) -> None:
    training = trainer(tmp_path / "run", epochs=8, learning_rate=0.03)
    reports_of(training)
    assert training.best_epoch < 8
    last = {name: t.clone() for name, t in training.network.state_dict().items()}
    checkpoint = training.finish("toy", tmp_path / "out", "toy", select="last")
    assert checkpoint.training["epoch"] == "8, the last"
    found = checkpoint.network.state_dict()
    assert_close(list(found.values()), list(last.values()), tolerance=0)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    training = trainer(tmp_path)
    next(training.train(ignore))
    with torch.no_grad():
        training.network.items.weight[0] = torch.nan
    with pytest.raises(RunError, match="loss of epoch 2 is nan; choose a lower --learning-rate"):
        next(training.train(ignore))
    assert trainer(tmp_path).epoch == 1


def test_a_run_can_start_from_a_checkpoint(tmp_path: Path) -> None:
    first = trainer(tmp_path / "first", epochs=8)
    reports_of(first)
    start = first.finish("toy", tmp_path / "out", "toy")
    second = Trainer(CONFIG, options(epochs=1), DATA, tmp_path / "second", start=start)
    (report,) = reports_of(second)
    assert report.loss < 0.2 * first.reports[0].loss
    record = second.finish("toy", tmp_path / "out", "toy").training
    assert record["start"] == start.training
    with pytest.raises(RunError, match="another start"):
        trainer(tmp_path / "second", epochs=1)
    with pytest.raises(RunError, match="another configuration or other items"):
        Trainer(tiny_config(NUM_ITEMS), options(), DATA, tmp_path / "third", start=start)


def test_with_one_event_held_out_there_is_nothing_to_choose_an_epoch_by(tmp_path: Path) -> None:
    training = trainer(tmp_path / "run", epochs=3, num_held_out=1, patience=1)
    reports = reports_of(training)
    assert [report.validation for report in reports] == [{}, {}, {}]
    seen = [h.events for h in training._seen.histories()]
    assert seen == [h.events[:-1] for h in DATA.histories()]
    checkpoint = training.finish("toy", tmp_path / "out", "toy")
    assert checkpoint.training["epoch"] == "3, the last"
    assert reports_of(trainer(tmp_path / "run", epochs=3, num_held_out=1, patience=1)) == []


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    next(trainer(tmp_path).train(ignore))
    path = tmp_path / "state.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunError, match=r"state\.safetensors is damaged .* delete it"):
        trainer(tmp_path)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_reduced_precision_learns_as_well(tmp_path: Path, precision: str) -> None:
    reports = reports_of(trainer(tmp_path, epochs=8, precision=precision))
    assert reports[-1].validation["NDCG@10"] > 0.9


def test_a_folder_of_another_network_or_catalogue_is_refused(tmp_path: Path) -> None:
    next(trainer(tmp_path).train(ignore))
    with pytest.raises(RunError, match="another config"):
        Trainer(tiny_config(NUM_ITEMS, num_layers=3), options(), DATA, tmp_path)
    with pytest.raises(RunError, match="another config"):
        Trainer(CONFIG.model_copy(update={"dropout": 0.5}), options(), DATA, tmp_path)
    renamed = interactions_of(cycling_users(24, 12, NUM_ITEMS), NUM_ITEMS)
    renamed.items.ids[0] = "other"
    with pytest.raises(RunError, match="another items"):
        trainer(tmp_path, renamed)


def test_a_folder_of_other_events_is_refused(tmp_path: Path) -> None:
    next(trainer(tmp_path).train(ignore))
    users = cycling_users(24, 12, NUM_ITEMS)
    users[0][3] = Event(17, 1, users[0][3].timestamp)
    with pytest.raises(RunError):
        trainer(tmp_path, interactions_of(users, NUM_ITEMS))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(
            (name, 0)
            for name in ("epochs", "patience", "batch_users", "validate_every", "accumulate")
        ),
        ("action_every", 0),
        ("num_negatives", 0),
        ("shuffle_ties", 1.5),
        ("hold_out", "none"),
        ("learning_rate", 0.0),
        ("weight_decay", -1.0),
        ("averaging", 1.0),
        ("action_weight", -0.1),
        ("momentum", 0.9),
    ],
)
def test_an_impossible_option_names_itself(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"(?m)^{field}\b"):
        options(**{field: value})
