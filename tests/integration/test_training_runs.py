"""`mfalcon train` as a person runs it: killed and started again, alone and as two processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from model.checkpoint import load
from tests.model.training.data import archive_of, cycling_users

NUM_ITEMS = 30
EPOCHS = 4
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
SHAPE = ["--d-model", "16", "--layers", "2", "--heads", "2", "--head-dim", "8", "--window", "6"]
HOW = ["--epochs", str(EPOCHS), "--batch-users", "8", "--decay", "linear", "--shuffle-ties", "0.5"]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        f"{user + 1}::{event.item + 1}::{2 * event.action - 1}::{event.timestamp // 120}"
        for user, events in enumerate(cycling_users(60, 20, NUM_ITEMS))
        for event in events
    ]
    movies = [f"{item + 1}::Film {item}::Drama" for item in range(NUM_ITEMS)]
    members = {"ratings.dat": "\n".join(rows) + "\n", "movies.dat": "\n".join(movies) + "\n"}
    return archive_of(tmp_path_factory.mktemp("data") / "tiny.zip", members)


def command(archive: Path, folder: Path, *more: str) -> list[str]:
    where = [
        "--data",
        str(archive),
        "--out",
        str(folder / "out"),
        "--run-folder",
        str(folder / "run"),
    ]
    return ["-m", "service.cli", "train", *where, *SHAPE, *HOW, "--accumulate", "2", *more]


def figures(folder: Path) -> list[dict[str, Any]]:
    """What the run recorded, apart from how long it took."""
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    for row in rows:
        del row["seconds"]
    return rows


@pytest.fixture(scope="module")
def alone(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    subprocess.run([sys.executable, *command(archive, folder)], check=True, env=ENVIRONMENT)
    return folder


def test_a_run_leaves_figures_a_picture_and_a_checkpoint(alone: Path) -> None:
    rows = figures(alone)
    assert [row["epoch"] for row in rows] == list(range(1, EPOCHS + 1))
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert "NDCG@10" in rows[-1]["validation"]
    assert (alone / "run" / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert load(alone / "out").training["test"]


def test_a_killed_run_ends_with_the_numbers_of_one_left_alone(
    archive: Path, tmp_path: Path, alone: Path
) -> None:
    log = tmp_path / "run" / "metrics.jsonl"
    first = subprocess.Popen([sys.executable, *command(archive, tmp_path)], env=ENVIRONMENT)
    until = time.monotonic() + 60
    while not log.exists() and time.monotonic() < until and first.poll() is None:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert len(figures(tmp_path)) < EPOCHS
    subprocess.run([sys.executable, *command(archive, tmp_path)], check=True, env=ENVIRONMENT)
    assert figures(tmp_path) == figures(alone)
    assert load(tmp_path / "out").digests() == load(alone / "out").digests()


def test_two_processes_have_the_losses_of_one(archive: Path, tmp_path: Path, alone: Path) -> None:
    """Dropout included: it belongs to a part of a step, not to the process that runs it."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [sys.executable, *torchrun, *command(archive, tmp_path)],
        check=True,
        env=ENVIRONMENT,
        timeout=120,
    )
    both, one = figures(tmp_path), figures(alone)
    assert [row["loss"] for row in both] == pytest.approx([row["loss"] for row in one], rel=1e-5)
    for mine, other in zip(both, one, strict=True):
        assert mine["validation"] == pytest.approx(other["validation"], abs=0.05)
