"""`mfalcon bench slate` measures every beam beside extends and prefills, and what a beam finds."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from model.engine.engine import Engine
from model.history import History
from service.benchmark.shapes import SHAPES
from service.benchmark.slate import BEAMS, LENGTH, measure_cost, measure_gain
from service.cli.main import app
from tests.service.builders import history_of, make_checkpoint, make_events
from tests.service.test_cli import MACHINE


@pytest.fixture
def tiny_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = replace(SHAPES["mlwhiz"], d_model=8, head_dim=4, num_events=30)
    monkeypatch.setitem(SHAPES, "mlwhiz", tiny)
    monkeypatch.setattr("service.benchmark.shapes.SMALL_SHAPES", ("mlwhiz",))
    monkeypatch.setattr("service.benchmark.timing._TURN_S", 0.0)


@pytest.mark.usefixtures("tiny_shape")
def test_every_beam_is_measured() -> None:
    cost = measure_cost(SHAPES["mlwhiz"], rounds=1, seed=0, on_turn=lambda *_: None)
    assert set(cost.step_ms) == set(BEAMS)
    assert min(cost.extend_ms, cost.append_ms, cost.prefill_ms, *cost.step_ms.values()) > 0
    assert cost.over(4, 2.0) == pytest.approx(cost.step_ms[4] / 8)


def test_a_beam_of_one_gains_nothing() -> None:
    checkpoint = make_checkpoint()
    engine = Engine(checkpoint.network)
    histories: list[History] = [history_of(checkpoint, make_events(n)) for n in (2, 5)]
    gain = measure_gain(engine, histories, beam=1)
    assert (gain.users, gain.different, gain.other_items, gain.gain) == (2, 0, 0, 0)
    assert gain.length == LENGTH


@pytest.mark.usefixtures("tiny_shape")
def test_the_command_prints_and_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.benchmark.slate.LENGTH", 2)
    command = ["bench", "slate", "--rounds", "1", "--threads", "1"]
    table = CliRunner().invoke(app, command)
    assert table.exit_code == 0, table.output
    assert "against greedy" in table.output.replace("\n", " ")
    found = json.loads(CliRunner().invoke(app, [*command, "--output", "json"]).stdout)
    assert found["gain"]["users"] > 0
    assert set(found) == {"costs", "gain"} | MACHINE


def test_a_checkpoint_without_histories_is_told() -> None:
    folder = "checkpoints/ml-1m"
    result = CliRunner().invoke(app, ["bench", "slate", "--checkpoint", folder])
    assert result.exit_code != 0
    assert "histories.json" in result.output
