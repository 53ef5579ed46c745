"""`mfalcon import`: what it writes, what it says, and that it writes nothing when it fails."""

import csv
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from model.checkpoint import load
from model.engine.engine import Engine
from model.history import Event, History
from service.cli.main import app, main
from tests.model.builders import START, assert_exact, encode
from tests.model.importers.states import LENGTH, state

FORMATS = ("meta", "rectools", "rechub", "genrec")
ARGUMENTS = {
    "meta": ["--heads", "2"],
    "rectools": ["--heads", "2"],
    "rechub": [],
    "genrec": ["--length", str(LENGTH)],
}
EXACTNESS = {
    "meta": "exact across requests",
    "rectools": "exact within a request only",
    "rechub": "exact within a request only",
    "genrec": "exact across requests",
}


def write(name: str, folder: Path) -> Path:
    path = folder / f"{name}.pt"
    torch.save({"state_dict": state(name), "epoch": 1}, path)
    return path


def run(name: str, path: Path, out: Path, *more: str) -> Result:
    arguments = ["import", "--from", name, str(path), "--out", str(out), *ARGUMENTS[name], *more]
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "500"})


def assert_refused(done: Result, out: Path, *named: str) -> None:
    """Exit code 2, one line that names what is wrong, and nothing beside the given files."""
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    for words in named:
        assert words in done.stderr
    assert not out.exists()
    assert not [path for path in out.parent.iterdir() if path.name.startswith(f".{out.name}")]


@pytest.mark.parametrize("name", FORMATS)
def test_a_checkpoint_is_written_that_answers_like_the_oracle(name: str, tmp_path: Path) -> None:
    done = run(name, write(name, tmp_path), tmp_path / "out")
    assert done.exit_code == 0, done.output
    checkpoint = load(tmp_path / "out")
    assert checkpoint.name == "out"
    assert checkpoint.training == {"imported_from": name, "file": f"{name}.pt"}
    assert checkpoint.items.ids == [str(i) for i in range(1, len(checkpoint.items) + 1)]
    engine = Engine(checkpoint.network)
    events = [Event(place % 7, 0, START + 300 * (place // 2)) for place in range(LENGTH)]
    for length in (1, LENGTH - 1, LENGTH):
        history, now = History.of(events[:length]), START + 5_000
        assert_exact(engine, encode(engine, history, now), now, (0, 5, len(checkpoint.items) - 1))


@pytest.mark.parametrize("name", FORMATS)
def test_it_says_what_it_wrote(name: str, tmp_path: Path) -> None:
    done = run(name, write(name, tmp_path), tmp_path / "out", "--name", "mine")
    checkpoint = load(tmp_path / "out")
    assert checkpoint.name == "mine"
    lines = done.stdout.splitlines()
    assert f"mine, {len(checkpoint.items)} items" in lines[0]
    assert f"{checkpoint.config.num_layers} layers" in lines[0]
    assert f"temperature {checkpoint.config.temperature:g}" in lines[1]
    assert lines[2] == f"{EXACTNESS[name]}:"
    assert [line.strip() for line in lines[3:]] == list(checkpoint.cacheability.reasons)


def test_options_reach_the_configuration(tmp_path: Path) -> None:
    times = ["--time-fn", "log", "--time-unit-s", "1", "--time-width", "0.301"]
    scores = ["--similarity", "cosine", "--temperature", "0.07", "--item-scale", "sqrt_d"]
    done = run("rechub", write("rechub", tmp_path), tmp_path / "out", *times, *scores)
    assert done.exit_code == 0, done.output
    config = load(tmp_path / "out").config
    for bucketing in (config.time_bias, config.input_times):
        assert bucketing is not None
        assert (bucketing.fn, bucketing.unit_s, bucketing.width) == ("log", 1, 0.301)
    assert (config.similarity, config.temperature, config.item_scale) == ("cosine", 0.07, "sqrt_d")


def test_safetensors_are_read_as_well(tmp_path: Path) -> None:
    save_file(state("rectools"), tmp_path / "model.safetensors")
    assert run("rectools", tmp_path / "model.safetensors", tmp_path / "out").exit_code == 0


@pytest.mark.parametrize("kind", ["csv", "csv-any-suffix", "lines"])
def test_item_ids_come_from_a_file(kind: str, tmp_path: Path) -> None:
    ids = [f"film {n}" for n in range(9)]
    path = tmp_path / ("ids.csv" if kind == "csv" else "ids.txt")
    if kind == "lines":
        path.write_text("\n".join(ids) + "\n")
    else:
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("title", "item_id"), *((f"t,{i}", i) for i in ids)])
    done = run("rechub", write("rechub", tmp_path), tmp_path / "out", "--items", str(path))
    assert done.exit_code == 0, done.output
    items = load(tmp_path / "out").items
    assert items.ids == ids
    assert next(iter(items.rows[0])) == "item_id"
    assert items.metadata(3) == ({} if kind == "lines" else {"title": "t,film 3"})


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("a\nb\nc\n", "lists 3 items, the weights hold 9"),
        ("\n".join("abcdefghh"), "an item_id appears twice"),
        ("a\n\n" + "\n".join("cdefghi"), "an item_id is empty"),
        ("item_id\n" + "\n".join("abcdefgh"), "lists 8 items, the weights hold 9"),
        ("item_id,title\na\n", "different number of fields"),
        ("", "holds no ids"),
        (None, "ids.txt"),
    ],
    ids=["few", "twice", "empty-id", "csv-few", "csv-cut", "empty", "missing"],
)
def test_a_wrong_id_map_is_refused(content: str | None, named: str, tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    if content is not None:
        path.write_text(content)
    done = run("rechub", write("rechub", tmp_path), tmp_path / "out", "--items", str(path))
    assert_refused(done, tmp_path / "out", "ids.txt", named)


def test_a_csv_without_the_column_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ids.csv"
    path.write_text("id,title\n1,one\n")
    done = run("rechub", write("rechub", tmp_path), tmp_path / "out", "--items", str(path))
    assert_refused(done, tmp_path / "out", "ids.csv", "item_id column")


@pytest.mark.parametrize("name", FORMATS)
def test_another_formats_file_is_refused(name: str, tmp_path: Path) -> None:
    other = FORMATS[FORMATS.index(name) - 1]
    done = run(name, write(other, tmp_path), tmp_path / "out")
    assert_refused(done, tmp_path / "out", f"read as {name}", "is missing")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("content", ["missing", "damaged", "code", "other"])
def test_a_bad_file_is_refused(name: str, content: str, tmp_path: Path) -> None:
    path = tmp_path / "[bad].pt"
    if content == "damaged":
        path.write_bytes(write(name, tmp_path).read_bytes()[:3000])
    elif content == "code":
        torch.save(torch.nn.Linear(1, 1), path)
    elif content == "other":
        path.write_text("no tensors")
    named = {"missing": "does not exist", "code": "export the state dict alone"}
    done = run(name, path, tmp_path / "out")
    assert_refused(done, tmp_path / "out", str(path), named.get(content, "damaged"))


def test_an_option_of_no_use_is_refused(tmp_path: Path) -> None:
    done = run("rechub", write("rechub", tmp_path), tmp_path / "out", "--heads", "2")
    assert_refused(done, tmp_path / "out", "--heads: of no use for rechub")


def test_a_folder_of_more_than_a_checkpoint_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "inside").mkdir(parents=True)
    done = run("rechub", write("rechub", tmp_path), out)
    assert done.exit_code == 2
    assert "holds other folders" in done.stderr
    assert [path.name for path in out.iterdir()] == ["inside"]


def test_a_file_in_the_checkpoints_place_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    done = run("rechub", write("rechub", tmp_path), tmp_path / "out")
    assert done.exit_code == 2
    assert "is not a folder" in done.stderr
    assert (tmp_path / "out").read_text() == "mine"


def test_a_checkpoint_is_replaced_as_a_whole_and_survives_a_failure(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("rechub", write("rechub", tmp_path), out).exit_code == 0
    assert run("meta", tmp_path / "rechub.pt", out).exit_code == 2
    assert load(out).training["imported_from"] == "rechub"
    assert run("rectools", write("rectools", tmp_path), out).exit_code == 0
    assert load(out).training["imported_from"] == "rectools"
    assert json.loads((out / "config.json").read_text())["name"] == "out"


def test_an_unknown_format_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["import", "--from", "elsewhere", "x.pt", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["mfalcon", *arguments])
    with pytest.raises(SystemExit) as raised:
        main()
    assert raised.value.code == 2
    assert "elsewhere" in capsys.readouterr().err
