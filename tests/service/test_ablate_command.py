"""`mfalcon ablate`: a table and a picture of a grid, and what it says of a wrong one."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.cli.main import app
from tests.model.training.data import cycling_users

NUM_ITEMS = 12
GRID = """question = "Does width help?"
picture = "{picture}"
seeds = [0]

[base]
d_model = 4
layers = 1
heads = 1
head_dim = 4
window = 6
epochs = 1
batch_users = 4

[variants.wide]
d_model = 8
{more}
"""
WIDER = "\n".join(f"[variants.d{width}]\nd_model = {width}" for width in (12, 16, 20))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "log.csv"
    rows = [
        f"{user},{event.item},{event.timestamp}"
        for user, events in enumerate(cycling_users(9, 8, NUM_ITEMS))
        for event in events
    ]
    path.write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n")
    return path


def ablate(data: Path, *more: str, picture: str = "differences", variants: str = "") -> Result:
    grid = data.with_name("grid.toml")
    grid.write_text(GRID.format(picture=picture, more=variants))
    out = str(data.with_name("out"))
    asked = ["ablate", str(grid), "--data", str(data), "--out", out, "--device", "cpu", *more]
    return CliRunner().invoke(app, asked, env={"COLUMNS": "300"})


def test_a_person_reads_a_table_with_the_number_of_runs(data: Path) -> None:
    done = ablate(data)
    assert done.exit_code == 0, done.output
    for words in ("Does width help?", "wide", "NDCG@10", "validation event", "2 runs were tried"):
        assert words in done.stdout
    out = data.with_name("out")
    assert "2 runs were tried" in (out / "table.txt").read_text()
    assert (out / "differences.png").read_bytes().startswith(b"\x89PNG")


def test_a_scaling_grid_has_laws_and_says_where_they_bend(data: Path) -> None:
    done = ablate(data, "--output", "json", picture="scaling", variants=WIDER)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["num_tried"] == len(found["rows"]) == 5
    assert set(found["laws"]) == {"operations", "parameters"}
    assert {"machine", "commit", "grid"} <= set(found)
    assert (data.with_name("out") / "scaling.png").read_bytes().startswith(b"\x89PNG")
    assert "bend" in (data.with_name("out") / "table.txt").read_text()
    assert not data.with_name("out").joinpath("differences.png").exists()


@pytest.mark.parametrize(
    ("variants", "named"),
    [("speed = 9", "wide: speed"), ("preset = 'bert'", "wide: preset"), ("wide", "is not TOML")],
)
def test_a_wrong_grid_is_named_and_leaves_nothing(data: Path, variants: str, named: str) -> None:
    done = ablate(data, variants=variants)
    assert done.exit_code == 2
    assert named in done.stderr
    assert not data.with_name("out").exists()


def test_a_run_that_fails_is_told(data: Path) -> None:
    done = ablate(data, variants="learning_rate = 1e30")
    assert done.exit_code == 1
    assert "wide, seed 0: failed: " in done.stdout
