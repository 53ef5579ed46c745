import json
from pathlib import Path

import pytest

from loadtests.record import Record
from loadtests.traffic import MIX
from tests.loadtests.commands import run


def locust(url: str, folder: Path, *options: str) -> tuple[str, ...]:
    return ("loadtests", "locust", "--host", url, "--folder", str(folder), *options)


def test_a_short_run_against_a_service(service_url: str, tmp_path: Path) -> None:
    command = locust(
        service_url, tmp_path, "--seconds", "4", "--users", "16", "--budget-ms", "9000"
    )
    done = run(*command, "--population", "128", "--output", "json")
    assert done.returncode == 0, done.stderr
    assert "pass  all.failed: 0" in done.stderr
    report = json.loads(done.stdout)
    figures = report["figures"]["all"]
    assert figures["requests"] > 100
    assert figures["failed"] == 0  # so every user's events came in order and within the limits
    assert 0 < figures["p50_ms"] <= figures["p95_ms"] <= figures["p99_ms"]
    assert figures["in_budget"] == figures["complete"] == 1.0
    record = Record.load(tmp_path)
    assert len(record.samples) == figures["requests"]
    assert {sample.user for sample in record.samples} == MIX.keys()
    assert record.run.budget_ms == 9000
    assert record.run.command.startswith("python -m loadtests locust")
    assert record.readings
    assert any(sample.latency_ms != round(sample.latency_ms) for sample in record.samples)


def test_several_processes_and_phases_make_one_record(service_url: str, tmp_path: Path) -> None:
    options = ("--seconds", "5", "--users", "4", "--processes", "2", "--shape", "step")
    done = run(*locust(service_url, tmp_path, *options, "--kind", "returning", "--kind", "new"))
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("samples-*.jsonl"))) == 2
    record = Record.load(tmp_path)
    assert {sample.user for sample in record.samples} == {"returning", "new"}
    assert all(-0.1 < sample.at_s < 20 for sample in record.samples)
    assert record.marks[0].name == "step 1: 1 users"
    assert len(record.marks) >= 3


def test_failing_requests_fail_the_run(overloaded_url: str, tmp_path: Path) -> None:
    done = run(*locust(overloaded_url, tmp_path, "--seconds", "1", "--users", "2"))
    assert done.returncode == 1
    assert "FAIL  all.failed: 1, wanted <= 0.01" in done.stderr
    assert "429 overloaded" in done.stdout


def test_the_gate_says_it_again(overloaded_url: str, tmp_path: Path) -> None:
    run(*locust(overloaded_url, tmp_path / "run", "--seconds", "1", "--users", "2"))
    done = run("loadtests", "gate", str(tmp_path / "run"))
    assert done.returncode == 1
    assert "FAIL  all.failed: 1, wanted <= 0.01" in done.stderr
    lenient = tmp_path / "slo.toml"
    lenient.write_text('[all]\nrefused = ">= 1"\n')
    done = run("loadtests", "gate", str(tmp_path / "run"), "--slo", str(lenient))
    assert done.returncode == 0
    assert "pass  all.refused: 1, wanted >= 1" in done.stderr


def test_a_folder_without_a_run_is_a_wrong_argument(tmp_path: Path) -> None:
    done = run("loadtests", "gate", str(tmp_path))
    assert done.returncode == 2
    assert "run.json" in done.stderr


def test_a_folder_with_a_run_is_not_taken(service_url: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"title": "", "command": "", "began": 0}')
    done = run(*locust(service_url, tmp_path, "--seconds", "1"))
    assert done.returncode == 2
    assert "holds a run already" in done.stderr


def test_no_service_fails_the_run(tmp_path: Path) -> None:
    done = run(*locust("http://127.0.0.1:9", tmp_path, "--seconds", "1"))
    assert done.returncode == 1
    assert "no service at http://127.0.0.1:9" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--host", "http://192.0.2.1:8000"), "--allow-remote"),
        (("--users", "4", "--population", "31"), "--population"),
        (("--shape", "round"), "--shape"),
    ],
)
def test_wrong_options_are_refused(options: tuple[str, ...], named: str, tmp_path: Path) -> None:
    done = run("loadtests", "locust", "--folder", str(tmp_path), *options)
    assert done.returncode == 2
    assert named in done.stderr


LOCUST = ["locust", "-f", "loadtests/locustfile.py", "--headless", "-u", "2", "-t", "1s"]


def test_the_locustfile_runs_on_its_own(service_url: str, tmp_path: Path) -> None:
    done = run(*LOCUST, "--host", service_url, "--run-folder", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert Record.load(tmp_path).samples
    done = run(*LOCUST, "--host", service_url, "--run-folder", str(tmp_path))
    assert done.returncode == 1
    assert "holds a run already" in done.stderr


def test_the_locustfile_refuses_a_remote_host(tmp_path: Path) -> None:
    done = run(*LOCUST, "--host", "http://192.0.2.1:8000", "--run-folder", str(tmp_path))
    assert done.returncode == 1
    assert "--allow-remote" in done.stderr
