"""`mfalcon bench slate` measures every beam beside extends and prefills, and what a beam finds."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model.data.sources import open_data
from model.engine.engine import Engine
from model.history import History
from service.benchmark.shapes import SHAPES
from service.benchmark.slate import BEAMS, LENGTH, histories_of, measure_cost, measure_gain
from service.cli.main import app
from tests.service.builders import ITEM_IDS, history_of, make_checkpoint, make_events
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


def test_users_of_a_data_set_are_continued_after_all_but_their_last_event(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    rows = [f"{user},{ITEM_IDS[user + n]},{1000 + n}" for user in range(5) for n in range(4 + user)]
    log.write_text("\n".join(["user_id,item_id,timestamp", *rows]))
    drawn = [
        histories_of(make_checkpoint(), open_data(str(log)), num_users=3, seed=seed)
        for seed in (1, 1)
    ]
    assert [h.events for h in drawn[0]] == [h.events for h in drawn[1]]
    for history in drawn[0]:
        first = history.events[0].item
        assert [event.item for event in history.events] == list(range(first, 2 * first + 3))


def test_a_checkpoint_without_histories_is_told() -> None:
    folder = "checkpoints/ml-1m"
    result = CliRunner().invoke(app, ["bench", "slate", "--checkpoint", folder])
    assert result.exit_code != 0
    assert "histories.json" in result.output
