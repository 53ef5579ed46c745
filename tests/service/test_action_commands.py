"""`mfalcon calibrate` and `evaluate-actions`: what they print, and what they say of bad input."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from model.checkpoint import load
from model.spread import Spread
from service.cli.main import app
from tests.model.training.data import archive_of, cycling_users

NUM_ITEMS = 12
SIZES = ["--d-model", "8", "--layers", "1", "--heads", "2", "--head-dim", "4", "--window", "6"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments], env={"COLUMNS": "300"})


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        f"{user + 1}::{event.item + 1}::{2 * event.action - 1}::{event.timestamp}"
        for user, events in enumerate(cycling_users(20, 9, NUM_ITEMS))
        for event in events
    ]
    movies = [f"{item + 1}::Film {item}::Drama" for item in range(NUM_ITEMS)]
    members = {"ratings.dat": "\n".join(rows) + "\n", "movies.dat": "\n".join(movies) + "\n"}
    return archive_of(tmp_path_factory.mktemp("data") / "tiny.zip", members)


def trained_on(ratings: Path, folder: Path, *more: str) -> Path:
    where = ["--data", ratings, "--out", folder / "out", "--run-folder", folder / "run"]
    with torch.random.fork_rng():
        done = run("train", *where, *SIZES, "--epochs", "1", "--batch-users", "4", *more)
    assert done.exit_code == 0, done.output
    return folder / "out"


@pytest.fixture(scope="module")
def trained(ratings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_on(ratings, tmp_path_factory.mktemp("trained"))


def test_a_checkpoint_is_calibrated_and_says_so(
    trained: Path, ratings: Path, tmp_path: Path
) -> None:
    out, picture = tmp_path / "calibrated", tmp_path / "reliability.png"
    where = ["--data", ratings, "--out", out, "--output", "json", "--reliability", picture]
    done = run("calibrate", trained, *where)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    made, plain = load(out), load(trained)
    assert found["fingerprint"] == plain.digests().fingerprint.hex()
    assert made.digests().fingerprint == plain.digests().fingerprint
    assert made.calibration is not None
    assert found["calibration"] == json.loads(made.calibration.model_dump_json())
    assert found["fitted_to"] == made.training["calibration"]
    assert found["fitted_to"] == {"data": ratings.name, "events": 20, "users": 20}
    assert found["before"]["rating"]["num_events"] == 20
    assert picture.read_bytes().startswith(b"\x89PNG")
    told = run("info", out, "--output", "json").stdout
    assert json.loads(told)["calibration"] == found["calibration"]
    assert json.loads(run("info", trained, "--output", "json").stdout)["calibration"] is None
    assert "calibration" in run("info", out).stdout
    evaluated = run("evaluate", out, "--data", ratings, "--output", "json").stdout
    assert json.loads(evaluated)["switches"]["calibrated"]
    after = json.loads(evaluated)["actions"]["rating"]["cross_entropy"]
    assert after == pytest.approx(found["after"]["rating"]["cross_entropy"], abs=1e-5)


def test_a_checkpoint_can_be_calibrated_where_it_lies(ratings: Path, tmp_path: Path) -> None:
    out = trained_on(ratings, tmp_path)
    done = run("calibrate", out, "--data", ratings, "--out", out)
    assert done.exit_code == 0, done.output
    for words in ("fitted to 20 events of 20 users", "calibration error", "before", "positive"):
        assert words in done.stdout
    assert load(out).calibration is not None


@pytest.mark.parametrize("command", ["calibrate", "evaluate-actions"])
def test_a_checkpoint_that_has_seen_all_but_the_test_event_is_refused(
    ratings: Path, tmp_path: Path, command: str
) -> None:
    out = trained_on(ratings, tmp_path, "--num-held-out", "1")
    more = ["--out", tmp_path / "calibrated"] if command == "calibrate" else []
    done = run(command, out, "--data", ratings, *more)
    assert done.exit_code == 2
    assert "train it with --num-held-out 2" in done.stderr
    assert not (tmp_path / "calibrated").exists()


def test_contenders_are_compared(trained: Path, ratings: Path) -> None:
    done = run("evaluate-actions", trained, "--data", ratings, "--output", "json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert next(iter(found["contenders"])) == "candidate row"
    assert (found["num_validation"], found["num_test"], found["num_targets"]) == (20, 20, 1)
    text = run("evaluate-actions", trained, "--data", ratings).stdout
    for words in ("late head", "item mean", "ahead by", "positive", "AUC", "±"):
        assert words in text


def test_several_checkpoints_are_compared_by_their_mean_and_spread(
    trained: Path, ratings: Path, tmp_path: Path
) -> None:
    other = trained_on(ratings, tmp_path, "--seed", "1")
    asked = ["evaluate-actions", trained, other, "--data", ratings]
    first, second = (
        run_of["contenders"]["late head"]
        for run_of in json.loads(run(*asked, "--output", "json").stdout)["runs"]
    )
    text = run(*asked).stdout
    assert "mean ± sd of 2 checkpoints" in text
    nats = [each["quality"]["cross_entropy"] for each in (first, second)]
    gaps = [each["entropy_gap"]["value"] for each in (first, second)]
    for found in (nats, gaps):
        assert str(Spread.of(found)) in text
    none = trained_on(ratings, tmp_path / "none", "--action-weight", "0")
    done = run("evaluate-actions", trained, none, "--data", ratings)
    assert "predict different actions" in done.stderr
