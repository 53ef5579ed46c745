"""`mfalcon bench engine` counts what it should, and its contenders give the same scores."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from model.engine.engine import Engine
from model.kernels.choose import fastest_stack
from model.kernels.tensor_stack import TensorStack
from model.network.hstu import HSTU
from model.operations import Operations
from service.benchmark.engine.curves import exponent
from service.benchmark.engine.full_forward import FullForward
from service.benchmark.engine.measure import (
    MAX_OPERATIONS,
    MAX_STATE_BYTES,
    EngineMeasurement,
    measure,
)
from service.benchmark.engine.passes import Passes
from service.benchmark.engine.users import MANY_NEW, make_users
from service.benchmark.shapes import SHAPES, Shape
from service.benchmark.timing import medians_ms, take_turns, time_in_turns
from service.cli.main import app
from tests.model.builders import assert_close, tiny_config
from tests.service.test_cli import MACHINE

SHAPE = Shape(
    name="mlwhiz",
    num_layers=2,
    d_model=8,
    num_heads=2,
    head_dim=4,
    num_events=24,
    num_candidates=8,
    num_cached=20,
)
IS_COMPILED = not isinstance(fastest_stack(HSTU(tiny_config()), torch.float32), TensorStack)
PLAIN = {
    f"plain_over_{name}"
    for name in ("prefill", "extend_by_1", "extend_by_16", "score", "request")
    if IS_COMPILED
}
RATIOS = PLAIN | {
    "loop_over_cached",
    "loop_over_prefill_and_cached",
    "batched_over_cached",
    "batched_over_prefill_and_cached",
    "score_over_gemm_floor",
    "score_matrix_share_1",
    "score_matrix_share_8",
    "score_matrix_share_32",
    "extend_over_prefill",
    "batched_over_single",
    "cached_request_speedup",
    "operation_ratio",
}


@pytest.fixture(autouse=True)
def same_random_numbers() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns and matrices as small as the shape."""
    monkeypatch.setattr("service.benchmark.timing._TURN_S", 0.0)
    monkeypatch.setattr("service.benchmark.engine.stream._SECONDS", 0.01)
    monkeypatch.setattr("service.benchmark.engine.matrix_rate._SIZES", {"cpu": (8, 16)})


def found(**changes: Any) -> EngineMeasurement:
    arguments: dict[str, Any] = {
        "device": "cpu",
        "dtype": torch.float32,
        "microbatch": 5,
        "batch_rows": 100,
        "rounds": 2,
        "seed": 3,
        "on_turn": lambda *_: None,
    }
    return measure(SHAPE, **(arguments | changes))


def test_operations_are_those_of_the_products() -> None:
    config = SHAPE.config().model_copy(update={"num_layers": 1})
    operations = Operations(config)
    d, width = 8, 8  # all heads together
    projections, output = 2 * d * 4 * width, 2 * width * d
    pair = 2 * width + 2 * width
    # One layer: of the first two rows K and V, of the pending one everything, over three keys.
    one_layer = 2 * (2 * d * 2 * width) + projections + output + 3 * pair
    assert operations.encode(0, 3) == one_layer
    assert operations.encode(2, 3) == projections + output + 3 * pair
    head = 2 * d * d + 2 * d * 3
    assert operations.score(3, 5) == 5 * (projections + output + 4 * pair + head)
    two_layers = Operations(SHAPE.config())
    causal = 1 + 2 + 3
    assert two_layers.encode(0, 3) == one_layer + 3 * (projections + output) + causal * pair
    assert operations.retrieve() == 2 * d * config.num_items


def test_users_have_states_of_their_own() -> None:
    engine = Engine(HSTU(SHAPE.config()))
    first, second = make_users(engine, SHAPE, 2)
    for user in (first, second):
        assert len(user.history) == SHAPE.num_events == user.live.num_events
        for lacking in (1, MANY_NEW):
            assert len(user.without_newest[lacking].history) == SHAPE.num_events - lacking
    pages = [{page.address for page in user.live.rows.pages} for user in (first, second)]
    assert not pages[0] & pages[1]
    assert first.history.common_prefix(second.history) >= SHAPE.num_events - MANY_NEW - 1


def test_a_full_forward_scores_as_the_cached_pass_does() -> None:
    engine = Engine(HSTU(SHAPE.config()))
    (user,) = make_users(engine, SHAPE, 1)
    full = FullForward(engine.network, user.history, user.request_time)
    assert full.batch == 64
    cached = Passes(engine, microbatch=3).logits([user])
    assert_close(cached, [full.score(user.candidates)])


@pytest.mark.usefixtures("short")
def test_everything_takes_its_turn_in_every_round() -> None:
    turns: list[tuple[str, int, int]] = []
    result = found(on_turn=lambda *turn: turns.append(turn))
    names = [name for name, _, _ in turns]
    contenders = list(dict.fromkeys(names))
    assert names == contenders * 3  # the warm-up and two rounds
    assert [done for _, done, _ in turns] == list(range(len(turns)))
    assert {total for _, _, total in turns} == {len(turns)}
    assert result.max_abs_diff <= 1e-5


@pytest.mark.usefixtures("short")
def test_figures_are_those_of_the_run() -> None:
    result = found()
    assert set(result.ratios) == RATIOS
    timings = {(t.name, t.num_users): t for t in result.timings}
    for name in ("prefill", "extend by 1", f"extend by {MANY_NEW}", "score", "request"):
        for size in (1, 8, 32):
            timing = timings[name, size]
            assert timing.over_floor == pytest.approx(timing.median_ms / timing.floor_ms)
            assert timing.floor_ms == pytest.approx(size * timings[name, 1].floor_ms)
    score = timings["score", 1]
    assert result.ratios["score_over_gemm_floor"] == pytest.approx(score.over_floor)
    for size in (1, 8, 32):
        share = result.ratios[f"score_matrix_share_{size}"]
        assert share == pytest.approx(1 / timings["score", size].over_floor)
    assert result.stream.num_clients == 32
    assert result.stream.num_requests >= 32
    assert 0 < result.stream.p50_ms <= result.stream.p99_ms
    assert result.stream.per_s > 0
    loop = result.baselines["loop"]
    assert loop.num_timed == SHAPE.num_candidates
    assert result.ratios["loop_over_cached"] == pytest.approx(loop.median_ms / score.median_ms)
    operations = Operations(SHAPE.config())
    rest = operations.retrieve() + operations.score(24, 8)
    assert result.ratios["operation_ratio"] == pytest.approx(
        (operations.encode(0, 24) + rest) / (operations.encode(19, 24) + rest)
    )
    assert result.curves["score over history"].sizes == [6, 12, 24, 48, 96]
    assert result.curves["score over candidates"].sizes == [2, 4, 8, 16, 32]
    layers, heads, page_rows, width = 2, 2, 32, 4
    assert result.memory.state_bytes == layers * heads * page_rows * 2 * width * 4 + 24 * 3 * 8
    assert result.kernels
    assert result.memory.peak_rss_bytes > 10 << 20
    assert result.memory.peak_device_bytes is None


@pytest.mark.usefixtures("short")
def test_what_is_too_much_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MAX_OPERATIONS, "cpu", 0.0)
    result = found(rounds=1)
    assert {timing.num_users for timing in result.timings} == {1}
    assert result.baselines == {}
    assert set(result.ratios) == PLAIN | {
        "score_over_gemm_floor",
        "score_matrix_share_1",
        "extend_over_prefill",
        "cached_request_speedup",
        "operation_ratio",
    }


@pytest.mark.usefixtures("short")
def test_the_floor_has_the_engines_dtype() -> None:
    result = found(dtype=torch.bfloat16, rounds=1)
    assert result.dtype == "bfloat16"
    assert result.baselines == {}
    assert set(result.ratios) == {name for name in RATIOS if not name.endswith("cached")}


@pytest.mark.usefixtures("short")
def test_there_are_as_many_users_as_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    state_bytes = found(rounds=1).memory.state_bytes
    monkeypatch.setitem(MAX_STATE_BYTES, "cpu", 10 * state_bytes)
    result = found(rounds=1)
    assert {timing.num_users for timing in result.timings} == {1, 8}
    assert result.stream.num_clients == 8


def test_an_exponent_is_that_of_the_size() -> None:
    sizes = [1, 2, 4, 8]
    assert exponent(sizes, [3.0 * size**1.5 for size in sizes]) == pytest.approx(1.5)
    assert exponent(sizes, [7.0] * 4) == pytest.approx(0)


def test_turns_are_medians_of_rounds() -> None:
    counts = {"a": itertools.count(), "b": itertools.count(10)}
    contenders = {name: count.__next__ for name, count in counts.items()}
    results = take_turns(contenders, rounds=3, on_turn=lambda *_: None)
    assert results == {"a": [1, 2, 3], "b": [11, 12, 13]}  # the first round warms up
    times = time_in_turns(contenders, rounds=2, on_turn=lambda *_: None)
    assert all(len(each) == 2 and min(each) > 0 for each in times.values())
    assert medians_ms({"a": [0.001, 0.5, 0.002]}) == {"a": 2.0}


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("output", ["table", "json"])
def test_the_command_prints_writes_and_draws(
    output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SHAPES, "mlwhiz", SHAPE)
    out = tmp_path / "made" / "here"
    arguments = ["bench", "engine", "--shape", "mlwhiz", "--rounds", "1", "--device", "cpu"]
    done = CliRunner().invoke(
        app, [*arguments, "--out", str(out), "--output", output], env={"COLUMNS": "200"}
    )
    assert done.exit_code == 0, done.output
    assert (out / "engine.png").stat().st_size > 10_000
    result: dict[str, Any] = json.loads((out / "engine.json").read_text())
    assert set(result) > MACHINE
    (shape,) = result["shapes"]
    assert set(shape["ratios"]) == RATIOS
    assert (shape["device"], shape["dtype"]) == ("cpu", "float32")
    written = (out / "engine.txt").read_text()
    assert all(f" {name} " in written for name in RATIOS)
    if output == "json":
        assert json.loads(done.stdout) == result
    else:
        assert all(name in done.stdout for name in RATIOS)
        assert "32 clients who ask again" in done.stdout
