import zipfile
from itertools import pairwise
from pathlib import Path

import pytest

from loadtests.replay.log import Log, LogError, write_subset
from model.data.movielens import read_movielens
from tests.loadtests.replay.archive import write_archive


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_archive(tmp_path / "log.zip")


def test_events_are_those_that_training_sees_in_the_same_order(path: Path) -> None:
    log, data = Log.read(path), read_movielens(path)
    assert sorted(log.users) == sorted(data.user_ids)
    names = [action for task in data.tasks for action in task.actions]
    for user, name in enumerate(data.user_ids):
        expected = [
            (data.items.ids[event.item], names[event.action - 1], event.timestamp)
            for event in data.history(user).events
        ]
        told = log.histories[log.users.index(name)]
        assert [(e["item_id"], e["action"], e["timestamp"]) for e in told] == expected


def test_the_past_and_the_steps_are_the_whole_log(path: Path) -> None:
    log = Log.read(path)
    steps = log.steps(3)
    assert all(one.event["timestamp"] <= other.event["timestamp"] for one, other in pairwise(steps))
    for user, history in enumerate(log.histories):
        played = [step.event for step in steps if step.user == user]
        assert len(played) == 3
        assert (*log.past(user, 3), *played) == history


def test_the_first_event_is_never_asked_for(path: Path) -> None:
    log = Log.read(path)
    assert all(len(log.past(user, 100)) == 1 for user in range(len(log.users)))
    assert len(log.steps(100)) == sum(len(history) - 1 for history in log.histories)


def test_users_are_chosen_by_the_seed(path: Path) -> None:
    log = Log.read(path)
    assert log.of(5, 0) == log.of(5, 0)
    assert len(log.of(5, 0).users) == 5
    assert log.of(5, 0).users != log.of(5, 1).users
    assert log.of(99, 0) == log


def test_a_subset_holds_the_chosen_users_and_all_movies(path: Path, tmp_path: Path) -> None:
    log = Log.read(path).of(3, 0)
    write_subset(path, log.users, tmp_path / "subset.zip")
    part = Log.read(tmp_path / "subset.zip")
    assert dict(zip(part.users, part.histories, strict=True)) == dict(
        zip(log.users, log.histories, strict=True)
    )
    assert read_movielens(tmp_path / "subset.zip").num_listed == read_movielens(path).num_listed


def test_another_layout_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("ratings.csv", "")
    (tmp_path / "no.zip").write_text("no archive")
    for name in ("other.zip", "no.zip", "missing.zip"):
        with pytest.raises(LogError, match=name):
            Log.read(tmp_path / name)
