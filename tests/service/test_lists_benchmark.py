"""`mfalcon bench lists`: full forwards and cached states give the same lists, and it would tell."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from model.checkpoint import Checkpoint, load, save
from model.config import Window
from model.data.sources import open_data
from model.evaluation.evaluate import evaluate
from model.evaluation.protocols import PROTOCOLS
from model.items import Items
from service.benchmark.lists import Lists, compare_lists
from service.cli.main import app
from tests.model.builders import make_network, tiny_config
from tests.model.training.data import cycling_users

NUM_ITEMS, NUM_USERS = 30, 12
ACTIONS = ("negative", "neutral", "positive")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [
        f"{user},{event.item},{event.timestamp},{ACTIONS[event.action - 1]}"
        for user, events in enumerate(cycling_users(NUM_USERS, 11, NUM_ITEMS))
        for event in events
    ]
    path = tmp_path / "log.csv"
    path.write_text("\n".join(["user_id,item_id,timestamp,action", *rows]) + "\n")
    return path


def checkpoint(folder: Path, **fields: Any) -> Path:
    config = tiny_config(NUM_ITEMS, window=Window(capacity=8, keep=6), **fields)
    items = Items([{"item_id": str(n)} for n in range(NUM_ITEMS)])
    save(Checkpoint("tiny", make_network(config), items), folder / "tiny")
    return folder / "tiny"


def compare(folder: Path, data: Path) -> Lists:
    return compare_lists(
        load(folder),
        open_data(str(data)),
        num_users=None,
        num_lists=3,
        num_candidates=10,
        microbatch=4,
        seed=0,
        on_user=lambda _done, _total: None,
    )


def test_lists_are_the_same_and_the_figures_those_of_an_evaluation(
    tmp_path: Path, data: Path
) -> None:
    folder = checkpoint(tmp_path)
    found = compare(folder, data)
    expected = evaluate(load(folder), open_data(str(data)), PROTOCOLS["rectools"]).metrics
    assert (found.num_users, found.num_lists) == (NUM_USERS, 3)
    assert (found.same_ranks, found.same_lists) == (NUM_USERS, 3)
    for way in ("full", "cached"):
        assert getattr(found.hr10, way) == pytest.approx(expected["HR@10"])
        assert getattr(found.ndcg10, way) == pytest.approx(expected["NDCG@10"])
    assert 0 < found.largest_retrieval_difference < 1e-5
    assert 0 < found.largest_action_difference < 1e-5


def test_a_difference_is_seen(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an engine that turns the catalogue round and knows no actions."""
    engine = "model.engine.engine.Engine"
    monkeypatch.setattr(f"{engine}.retrieve", lambda self, u: self.retrieve_all([u])[0].flip(0))
    monkeypatch.setattr(
        f"{engine}.score", lambda _, batches: [torch.zeros(len(b.candidates), 3) for b in batches]
    )
    found = compare(checkpoint(tmp_path), data)
    assert found.same_ranks < NUM_USERS
    assert found.same_lists == 0
    assert found.largest_retrieval_difference > 0.1
    assert found.largest_action_difference > 0.1


def bench(folder: Path, data: Path, *more: str) -> Result:
    asked = ["--checkpoint", str(folder), "--data", str(data), "--lists", "2", *more]
    return CliRunner().invoke(app, ["bench", "lists", *asked], env={"COLUMNS": "200"})


def test_a_person_reads_figures_and_a_program_the_same(tmp_path: Path, data: Path) -> None:
    folder = checkpoint(tmp_path)
    done = bench(folder, data, "--candidates", "5")
    assert done.exit_code == 0, done.output
    for words in ("HR@10", "12 of 12 users", "2 of 2", "full forwards / cached"):
        assert words in done.stdout
    found = json.loads(bench(folder, data, "--candidates", "5", "--output", "json").stdout)
    assert (found["num_candidates"], found["same_lists"]) == (5, 2)
    assert found["speed_ratio"] > 0


def test_a_checkpoint_without_actions_is_refused(tmp_path: Path, data: Path) -> None:
    done = bench(checkpoint(tmp_path, tasks=()), data)
    assert done.exit_code == 2
    assert "tiny predicts no actions" in done.stderr
