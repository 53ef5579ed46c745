"""`mfalcon train`, `evaluate` and `info`: what they print, and what they say of bad input."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from model.checkpoint import Checkpoint, load, save
from model.evaluation.protocols import PROTOCOLS, Protocol
from model.items import Items
from model.network.hstu import HSTU
from model.presets import PRESETS
from service.cli.main import app
from tests.model.training.data import archive_of, cycling_users

NUM_ITEMS = 12
SIZES = ["--d-model", "8", "--layers", "1", "--heads", "2", "--head-dim", "4", "--window", "6"]
CSV = "user_id,item_id,timestamp\n" + "".join(
    f"{user},{(user + place) % NUM_ITEMS},{1_600_000_000 + 60 * place}\n"
    for user in range(9)
    for place in range(5)
)


@pytest.fixture(autouse=True)
def _own_random_state() -> Iterator[None]:
    with torch.random.fork_rng():
        yield


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "300"})


def train(data: Path, folder: Path, *more: str) -> Result:
    where = ["--data", str(data), "--out", str(folder / "out"), "--run-folder", str(folder / "run")]
    return run("train", *where, *SIZES, "--epochs", "1", "--batch-users", "4", *more)


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        f"{user + 1}::{event.item + 1}::{2 * event.action - 1}::{event.timestamp}"
        for user, events in enumerate(cycling_users(10, 9, NUM_ITEMS))
        for event in events
    ]
    movies = [f"{item + 1}::Film {item}::Drama" for item in range(NUM_ITEMS + 3)]
    members = {"ratings.dat": "\n".join(rows) + "\n", "movies.dat": "\n".join(movies) + "\n"}
    return archive_of(tmp_path_factory.mktemp("data") / "tiny.zip", members)


@pytest.fixture(scope="module")
def trained(ratings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    with torch.random.fork_rng():
        done = train(ratings, folder)
    assert done.exit_code == 0, done.output
    return folder / "out"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_evaluation_prints_its_switches_and_figures(
    trained: Path, ratings: Path, protocol: str
) -> None:
    asked = ["--data", str(ratings), "--protocol", protocol, "--output", "json"]
    done = run("evaluate", str(trained), *asked)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["protocol"] == protocol
    resolved = PROTOCOLS[protocol].model_dump() | {"window": 6}
    assert resolved.items() <= found["switches"].items()
    assert found["switches"]["epoch"] == "1, best validation NDCG@10"
    assert {f"{m}@{k}" for m in ("HR", "NDCG") for k in (10, 50, 100, 200)} == set(found["metrics"])
    assert found["metrics"]["HR@200"] == 1.0
    listed = PROTOCOLS[protocol].candidates == "listed"
    assert found["num_candidates"] == NUM_ITEMS + 3 * listed
    assert (found["unknown_candidates"], found["trained_targets"]) == (3 * listed, 0)
    assert set(found["actions"]["rating"]["actions"]) == {"negative", "neutral", "positive"}
    assert {"machine", "python", "torch", "commit"} <= set(found)


def test_every_switch_can_be_set_apart(trained: Path, ratings: Path) -> None:
    asked = {
        "sort": "shuffled",
        "mask": "none",
        "candidates": "listed",
        "query_time": "last_event",
        "min_events": 3,
        "seed": 7,
        "num_targets": 2,
        "window": 4,
    }
    assert {*asked, "anchored"} == set(Protocol.model_fields)
    flags = [
        x for name, value in asked.items() for x in (f"--{name.replace('_', '-')}", str(value))
    ]
    done = run("evaluate", str(trained), "--data", str(ratings), *flags, "--output", "json")
    assert asked.items() <= json.loads(done.stdout)["switches"].items()
    both = run("evaluate", str(trained), "--data", str(ratings), *flags, "--anchored")
    assert "choose one of both" in both.stderr


def test_a_person_reads_tables_and_a_picture(trained: Path, ratings: Path, tmp_path: Path) -> None:
    picture = tmp_path / "reliability.png"
    done = run("evaluate", str(trained), "--data", str(ratings), "--reliability", str(picture))
    assert done.exit_code == 0, done.output
    for words in ("query_time", "target", "@200", "NDCG", "AUC", "normalised entropy"):
        assert words in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_several_checkpoints_give_their_mean_and_spread(trained: Path, ratings: Path) -> None:
    other = HSTU(load(trained).config)
    save(Checkpoint("other", other, load(trained).items), trained.parent / "other")
    asked = ["evaluate", str(trained), str(trained.parent / "other"), "--data", str(ratings)]
    found = json.loads(run(*asked, "--output", "json").stdout)
    gains = [each["metrics"]["NDCG@10"] for each in found["runs"]]
    assert gains[0] != gains[1]
    assert found["metrics"]["NDCG@10"]["mean"] == pytest.approx(sum(gains) / 2)
    assert found["metrics"]["NDCG@10"]["sd"] == pytest.approx(abs(gains[0] - gains[1]) / 2**0.5)
    told = run(*asked).stdout
    assert "mean ± sd of 2 checkpoints" in told
    assert "1, best validation NDCG@10, None" in told  # the other was never trained
    assert "draws one" in run(*asked, "--reliability", "x.png").stderr


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--protocol", "own"], "there are meta, tf, rectools, genrec"),
        (["--mask", "half"], "mask"),
        (["--min-events", "1"], "--min-events"),
        (["--min-events", "99"], "no user has 99 events"),
        (["--data", "nowhere.csv"], "nowhere.csv does not exist"),
        (["--reliability", "/nowhere/x.png"], "/nowhere"),
    ],
)
def test_a_wrong_evaluation_is_named(
    trained: Path, ratings: Path, flags: list[str], named: str
) -> None:
    done = run("evaluate", str(trained), "--data", str(ratings), *flags)
    assert done.exit_code == 2
    assert named in done.stderr
    assert done.stdout == ""


def test_data_without_actions_trains_a_model_without_them(tmp_path: Path) -> None:
    data = tmp_path / "log.csv"
    data.write_text(CSV)
    done = train(data, tmp_path)
    assert done.exit_code == 0, done.output
    loaded = load(tmp_path / "out")
    assert loaded.config.tasks == ()
    assert loaded.items.ids == [str(item) for item in range(NUM_ITEMS)]
    asked = run("evaluate", str(tmp_path / "out"), "--data", str(data), "--reliability", "x.png")
    assert "predicts no actions" in asked.stderr


def test_a_switch_that_is_on_can_be_turned_off(ratings: Path, tmp_path: Path) -> None:
    assert train(ratings, tmp_path, "--no-exclude-seen").exit_code == 0
    options = load(tmp_path / "out").training["options"]
    assert isinstance(options, dict)
    assert options["exclude_seen"] is False


def test_what_the_data_says_is_passed_on(tmp_path: Path) -> None:
    data = tmp_path / "log.csv"
    text = "user_id,item_id,timestamp\n" + "".join(
        f"u,{item},{1_600_000_000_000 + item}\n" for item in range(5)
    )
    data.write_text(text)
    assert "milliseconds" in train(data, tmp_path).stderr


def test_a_checkpoint_can_hold_the_item_ids_alone(ratings: Path, tmp_path: Path) -> None:
    """Some data sets may be trained on, but not passed on."""
    assert train(ratings, tmp_path, "--no-metadata").exit_code == 0
    ids = [str(item + 1) for item in range(NUM_ITEMS)]
    assert (tmp_path / "out" / "items.csv").read_text().split() == ["item_id", *ids]
    whole = tmp_path / "whole"
    assert train(ratings, whole).exit_code == 0
    assert load(whole / "out").digests() == load(tmp_path / "out").digests()
    assert "title" in load(whole / "out").items.rows[0]


def test_the_actions_of_the_data_become_a_task(tmp_path: Path) -> None:
    lines = CSV.splitlines()[1:]
    kinds = ("view", "buy")
    rows = [f"{line},{kinds[place % 2]}\n" for place, line in enumerate(lines)]
    data = tmp_path / "log.csv"
    data.write_text("user_id,item_id,timestamp,action\n" + "".join(rows))
    assert train(data, tmp_path).exit_code == 0
    config = load(tmp_path / "out").config
    assert config.actions == ("buy", "view")
    assert config.value.actions == {}
    other = tmp_path / "retrieval"
    assert train(data, other, "--action-weight", "0").exit_code == 0
    assert load(other / "out").config.tasks == ()


def test_fields_of_the_configuration_can_be_set(ratings: Path, tmp_path: Path) -> None:
    fields = ["bias_heads=per_head", "position_buckets=4", 'value={"actions": {"positive": 2.0}}']
    fields.append('window={"capacity": 6, "keep": 6}')
    done = train(ratings, tmp_path, *(x for field in fields for x in ("--set", field)))
    assert done.exit_code == 0, done.output
    config = load(tmp_path / "out").config
    assert (config.bias_heads, config.position_buckets) == ("per_head", 4)
    assert config.value.actions == {"positive": 2.0}
    assert config.window.strict
    assert "window 6, strict" in run("info", str(tmp_path / "out")).stdout


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--preset", "bert"], "there are native, meta, rectools"),
        (["--set", "gate=relu"], "gate"),
        (["--set", "gate"], "write FIELD=VALUE"),
        (["--set", "speed=9"], "speed"),
        (["--preset", "genrec"], "num_heads * v_dim"),
        (["--hold-out", "nothing"], "--hold-out"),
        (["--loss", "hinge"], "--loss"),
        (["--num-held-out", "0"], "--num-held-out"),
        (["--learning-rate", "0", "--epochs", "0"], "--epochs: Input should be greater"),
        (["--precision", "int8"], "precision"),
        (["--data", "nowhere.zip"], "nowhere.zip does not exist"),
    ],
)
def test_a_wrong_training_is_named_and_leaves_nothing(
    ratings: Path, tmp_path: Path, flags: list[str], named: str
) -> None:
    wider = ["--d-model", "10"] if "genrec" in flags else []
    done = train(ratings, tmp_path, *flags, *wider)
    assert done.exit_code == 2, done.output
    assert named in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_users_with_one_event_train_nothing(tmp_path: Path) -> None:
    data = tmp_path / "log.csv"
    data.write_text("user_id,item_id,timestamp\n1,1,5\n2,1,6\n")
    done = train(data, tmp_path)
    assert done.exit_code == 2
    assert "nothing to train on" in done.stderr


@pytest.mark.parametrize("name", PRESETS)
def test_info_says_the_class_of_a_preset_with_its_reasons(name: str, tmp_path: Path) -> None:
    config = PRESETS[name](4, d_model=8, num_layers=1, num_heads=2, qk_dim=4, v_dim=4)
    items = Items([{"item_id": f"i{n}"} for n in range(4)])
    save(Checkpoint(name, HSTU(config), items, {"source": "test"}), tmp_path / "out")
    checkpoint = load(tmp_path / "out")
    found = json.loads(run("info", str(tmp_path / "out"), "--output", "json").stdout)
    assert found["exactness"] == checkpoint.cacheability.exactness
    assert tuple(found["reasons"]) == checkpoint.cacheability.reasons
    assert found["fingerprint"] == checkpoint.digests().fingerprint.hex()
    assert found["training"] == {"source": "test"}
    text = run("info", str(tmp_path / "out")).stdout
    assert checkpoint.cacheability.exactness in text
    for reason in checkpoint.cacheability.reasons:
        assert reason in text
