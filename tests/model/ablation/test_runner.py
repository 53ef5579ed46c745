"""Runs are made once, go on where they stopped, and never look at the test event."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from model.ablation import runner
from model.ablation.grid import Run
from model.ablation.outcome import Outcome
from model.ablation.report import RESULT, write
from model.ablation.runner import Failure, run_all
from model.data.interactions import Interactions
from model.history import Event
from model.operations import Operations
from model.training.run_folder import RunError
from model.training.trainer import Trainer
from tests.model.ablation.grids import BASE, DATA, NUM_ITEMS, grid, killed
from tests.model.training.data import cycling_users, interactions_of


def outcome(run: Run, out: Path, data: Interactions = DATA) -> Outcome:
    """In this process."""
    return runner._run(run, data, out, "cpu", 1)


def only_run() -> Run:
    (run,) = grid().runs()
    return run


def test_runs_share_processes_and_one_that_fails_stops_no_other(tmp_path: Path) -> None:
    asked = grid(variants={"wild": {"learning_rate": 1e30}, "wide": {"d_model": 16}})
    found = list(run_all(asked.runs(), DATA, tmp_path, jobs=2, device="cpu"))
    done = {each.variant: each for each in found if isinstance(each, Outcome)}
    (failed,) = (each for each in found if isinstance(each, Failure))
    assert set(done) == {"base", "wide"}
    assert done["base"] == outcome(only_run(), tmp_path / "alone")
    assert (failed.variant, failed.seed) == ("wild", 0)
    assert "choose a lower --learning-rate" in failed.why

    report = write(asked, found, tmp_path, {"machine": "here"})
    assert report.rows[0].variant == "base"
    assert (tmp_path / "differences.png").read_bytes().startswith(b"\x89PNG")
    told = json.loads((tmp_path / RESULT).read_text())
    assert (told["machine"], told["failures"][0]["variant"]) == ("here", "wild")


def test_a_process_that_is_killed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_run", killed)
    with pytest.raises(RunError, match="run the same command again"):
        list(run_all(grid().runs(), DATA, tmp_path, jobs=1, device="cpu"))


def test_every_run_in_the_folder_was_tried(tmp_path: Path) -> None:
    first = outcome(only_run(), tmp_path)
    (_, other) = grid(variants={"other": {"d_model": 16}}).runs()
    outcome(other, tmp_path)
    assert write(grid(), [first], tmp_path, {}).num_tried == 2


def test_a_run_that_is_done_is_not_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = outcome(only_run(), tmp_path)
    monkeypatch.setattr(Trainer, "_train_epoch", lambda *_: pytest.fail("it trains"))
    assert outcome(only_run(), tmp_path) == first


def test_a_run_that_was_stopped_goes_on(tmp_path: Path) -> None:
    run = only_run()
    recipe = run.recipe
    whole = outcome(run, tmp_path / "whole")
    folder = run.folder(tmp_path / "stopped")
    begun = Trainer(recipe.config(DATA), recipe.options, DATA, folder)
    next(begun.train(lambda _done, _total: None))
    assert outcome(run, tmp_path / "stopped") == whole


def test_the_test_event_can_be_anything(tmp_path: Path) -> None:
    """Neither a figure nor a weight depends on it."""
    users = cycling_users(24, 12, NUM_ITEMS)
    for user, events in enumerate(users):
        events[-1] = Event(7 * user % NUM_ITEMS, 3, events[-1].timestamp + user)
    others = interactions_of(users, NUM_ITEMS)
    assert others.digest() != DATA.digest()
    assert outcome(only_run(), tmp_path / "own") == outcome(only_run(), tmp_path / "other", others)
    states = [(tmp_path / name / "base/seed-0/best.safetensors") for name in ("own", "other")]
    assert states[0].read_bytes() == states[1].read_bytes()
    assert "test" not in (tmp_path / "own/base/seed-0/metrics.jsonl").read_text()


def test_a_lost_record_is_told(tmp_path: Path) -> None:
    outcome(only_run(), tmp_path)
    (tmp_path / "base/seed-0/metrics.jsonl").unlink()
    with pytest.raises(RunError, match="lost its record of epoch"):
        outcome(only_run(), tmp_path)


def test_a_cost_is_counted_from_windows_and_epochs(tmp_path: Path) -> None:
    run = only_run()
    config = run.recipe.config(DATA)
    # 24 users of 12 events, two held out: windows of 7 and of 4 events.
    epoch = 24 * sum(map(Operations(config).learn_items, (7, 4)))
    assert outcome(run, tmp_path).num_operations == 3 * epoch


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_a_command_that_is_stopped_leaves_no_run_behind(
    tmp_path: Path, stop: signal.Signals
) -> None:
    data, file = tmp_path / "log.csv", tmp_path / "grid.toml"
    lines = [
        f"{user},{event.item},{event.timestamp}"
        for user, events in enumerate(cycling_users(24, 12, NUM_ITEMS))
        for event in events
    ]
    data.write_text("\n".join(["user_id,item_id,timestamp", *lines]) + "\n")
    base = BASE | {"epochs": 100_000, "patience": 100_000}
    options = "\n".join(f"{name} = {value}" for name, value in base.items())
    file.write_text(f'question = "Long?"\nseeds = [0, 1, 2]\n[base]\n{options}\n[variants]\n')
    asked = [str(file), "--data", str(data), "--out", str(tmp_path / "out"), "--device", "cpu"]
    # A shell's background job is born deaf to Ctrl-C, and so are those it begins.
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    command = subprocess.Popen([sys.executable, "-m", "service.cli", "ablate", *asked])
    signal.signal(signal.SIGINT, heard)
    try:
        state = tmp_path / "out/base/seed-0/state.safetensors"
        while not state.exists():
            assert command.poll() is None
            time.sleep(0.1)
        children = psutil.Process(command.pid).children(recursive=True)
        assert children
        os.kill(command.pid, stop)
        _, left = psutil.wait_procs(children, timeout=120)
        assert not left
        assert command.wait(120) != 0
    finally:
        command.kill()
        command.wait()
