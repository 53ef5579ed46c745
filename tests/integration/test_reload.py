"""Reloading under load, by the command: nobody fails, and each answer is of one checkpoint."""

import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from model.checkpoint import Checkpoint, load
from tests.integration.conftest import Serve
from tests.integration.load import Load
from tests.integration.process import ANSWER_S, MFALCON, ROOT, ServiceProcess, clean_environment
from tests.service.builders import (
    JSON,
    assert_right,
    make_events,
    scores_of,
    write_checkpoint,
)

KEY = "an-admin-key-of-the-tests"
NUM_RELOADS = 4


@pytest.fixture
def service(serve: Serve, redis_url: str) -> ServiceProcess:
    return serve(redis_url, "--store-timeout-ms", "10000", "--admin-key", KEY)


def reload(
    service: ServiceProcess, *arguments: str, key: str = KEY
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MFALCON, "reload", "--url", f"http://127.0.0.1:{service.port}", *arguments],
        cwd=ROOT,
        env=clean_environment() | {"MFALCON_ADMIN_KEY": key},
        capture_output=True,
        text=True,
        timeout=120,
    )


def fingerprint(checkpoint: Checkpoint) -> str:
    return checkpoint.digests().fingerprint.hex()


def test_no_request_fails_and_no_answer_mixes_checkpoints(
    service: ServiceProcess, folder: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    other_folder = write_checkpoint(tmp_path / "other", seed=1)
    by_fingerprint = {fingerprint(made): made for made in (checkpoint, load(other_folder))}
    load_ = Load(service.port)
    with load_.running():
        for number in range(NUM_RELOADS):
            done = reload(service, "--checkpoint", str((other_folder, folder)[number % 2]))
            assert done.returncode == 0, done.stderr
            wait_until_let_go(service, number + 1)
            load_.wait_for(20)
    assert {status for status, _ in load_.answers} == {200}, load_.answers[-1]
    counts = Counter(answer["model"]["fingerprint"] for _, answer in load_.answers)
    assert set(counts) == set(by_fingerprint)
    assert_all_right([answer for _, answer in load_.answers], by_fingerprint)
    assert "Traceback" not in service.log


def wait_until_let_go(service: ServiceProcess, count: int) -> None:
    """So many checkpoints, of those that were served."""
    give_up_s = time.monotonic() + ANSWER_S
    while service.log.count("let_go") < count:
        assert time.monotonic() < give_up_s, service.log
        time.sleep(0.02)


def assert_all_right(answers: list[JSON], checkpoints: dict[str, Checkpoint]) -> None:
    """The scores of each are those of the checkpoint that it names, and of the history sent."""
    right: dict[tuple[str, int], dict[str, float]] = {}
    for answer in answers:
        case = answer["model"]["fingerprint"], len(answer["asked"]["events"])
        if case not in right:
            assert_right(answer, checkpoints[case[0]], make_events(case[1]))
            right[case] = scores_of(answer)
        assert scores_of(answer) == pytest.approx(right[case], abs=2e-5)


def test_the_command_says_why_nothing_was_reloaded(service: ServiceProcess, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    for done, why in (
        (reload(service, "--checkpoint", str(nowhere)), str(nowhere)),
        (reload(service, key="another"), "401"),
        (reload(service, key=""), "MFALCON_ADMIN_KEY"),
        (reload(service, "--url", "http://127.0.0.1:1"), "http://127.0.0.1:1"),
    ):
        assert done.returncode == 2
        assert why in done.stderr
        assert "Traceback" not in done.stderr
    assert service.get("/health/ready").status_code == 200
    done = reload(service, "--output", "json")
    assert done.returncode == 0
    assert '"previous"' in done.stdout
