"""Locust, the gate and the replay against `mfalcon serve` itself, each a process."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from loadtests.record import Record
from loadtests.target import KEY_VARIABLE
from model.checkpoint import save
from tests.integration.process import MFALCON, ServiceProcess
from tests.loadtests.commands import run
from tests.loadtests.replay.archive import NUM_MOVIES, write_archive
from tests.service.builders import make_checkpoint, single_thread

Serve = Callable[..., str]
KEY = "a-key-of-the-load-test-0123456789"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    with single_thread():
        item_ids = [f"{movie}" for movie in range(1, NUM_MOVIES + 1)]
        save(make_checkpoint(item_ids=item_ids), tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


@pytest.fixture
def serve(checkpoint: Path, tmp_path: Path) -> Iterator[Serve]:
    """Starts services, ready when their address is returned."""
    with ExitStack() as stack:

        def start(*flags: str, program: list[str] = MFALCON) -> str:
            common = ["--checkpoint", str(checkpoint), "--store", "memory", "--threads", "1"]
            service = ServiceProcess([*common, *flags], tmp_path / "log", program=program)
            stack.callback(service.remove)
            service.wait_until_ready()
            return f"http://127.0.0.1:{service.port}"

        yield start


def locust(url: str, folder: Path, *options: str) -> tuple[str, ...]:
    command = ("loadtests", "locust", "--host", url, "--folder", str(folder), "--seconds", "4")
    return (*command, *options)


def test_the_gate_fails_a_service_with_a_slow_engine(serve: Serve, tmp_path: Path) -> None:
    brake, slo = tmp_path / "brake", tmp_path / "slo.toml"
    url = serve(program=[sys.executable, "-m", "tests.loadtests.slow_service", str(brake)])
    brake.touch()
    slo.write_text('[recommend]\np50_ms = "<= 250"\n')
    done = run(*locust(url, tmp_path / "run", "--users", "2", "--slo", str(slo)))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAIL  recommend.p50_ms" in done.stderr
    slo.write_text('[recommend]\np50_ms = "<= 60000"\n')
    done = run("loadtests", "gate", str(tmp_path / "run"), "--slo", str(slo))
    assert done.returncode == 0, done.stderr


def test_every_kind_of_user_is_served_with_a_key(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = serve("--api-keys", f"load={KEY}")
    done = run(*locust(url, tmp_path / "refused"))
    assert done.returncode == 1
    assert KEY_VARIABLE in done.stderr
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    done = run(*locust(url, tmp_path / "run", "--output", "json", "--processes", "2"))
    figures = json.loads(done.stdout)["figures"]
    assert figures["all"]["failed"] == 0, done.stderr
    assert figures.keys() == {"all", "recommend", "events", "batch"}
    assert figures["recommend"]["hit_ratio"] > 0
    assert KEY not in (tmp_path / "run" / "run.json").read_text()


def test_a_replay_finds_what_the_offline_evaluation_finds(
    serve: Serve, checkpoint: Path, tmp_path: Path
) -> None:
    url, data = serve(), write_archive(tmp_path / "ml-1m.zip")
    options = ("--data", str(data), "--users", "8", "--last", "3", "--offline", str(checkpoint))
    command = ("loadtests", "replay", "--host", url, "--folder", str(tmp_path / "run"), *options)
    done = run(*command, "--speed-up", "100000", "--output", "json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["num_events"] == told["offline"]["num_targets"] == 8 * 3
    # The windows are not full, so that both see the same history: they agree exactly.
    assert told["hit_rate"]["value"] == pytest.approx(told["offline"]["hit_rate"])
    assert told["gain"]["value"] == pytest.approx(told["offline"]["gain"])
    assert 0 < told["hit_rate"]["value"] < 1
    errors = {name: found["calibration_error"] for name, found in told["actions"].items()}
    assert errors == pytest.approx(told["offline"]["calibration_error"], abs=1e-5)
    record = Record.load(tmp_path / "run")
    assert len(record.samples) == 3 * 24
    assert all(sample.waited_ms >= 0 for sample in record.samples)


def test_a_replay_against_another_checkpoint_fails(serve: Serve, tmp_path: Path) -> None:
    url, data = serve(), write_archive(tmp_path / "ml-1m.zip")
    with single_thread():
        item_ids = [f"{movie}" for movie in range(1, NUM_MOVIES + 1)]
        save(make_checkpoint(seed=1, item_ids=item_ids), tmp_path / "other")
    options = ("--data", str(data), "--last", "8", "--offline", str(tmp_path / "other"))
    command = ("loadtests", "replay", "--host", url, "--folder", str(tmp_path / "run"), *options)
    done = run(*command)
    assert done.returncode == 1, done.stdout
    assert "serves another checkpoint" in done.stderr
