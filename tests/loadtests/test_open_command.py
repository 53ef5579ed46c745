import json
from pathlib import Path

from loadtests.port import free_port
from loadtests.record import Record
from tests.loadtests.commands import run

LENIENT = '[all]\nfailed = "<= 0"\n'


def test_a_fixed_rate_is_recorded_and_judged(service_url: str, tmp_path: Path) -> None:
    slo, folder = tmp_path / "slo.toml", tmp_path / "run"
    slo.write_text(LENIENT)
    command = ("loadtests", "open", "--host", service_url, "--rate", "60", "--seconds", "1")
    done = run(*command, "--folder", str(folder), "--slo", str(slo), "--output", "json")
    assert done.returncode == 0, done.stderr
    record = Record.load(folder)
    assert json.loads(done.stdout)["figures"]["all"]["requests"] == len(record.samples) > 20
    assert [mark.name for mark in record.marks] == ["60.0/s"]
    assert record.run.budget_ms == 50
    # The fake service listens in the test's own process.
    assert record.readings


def test_a_ramp_of_a_service_that_refuses_ends_at_once(overloaded_url: str, tmp_path: Path) -> None:
    command = ("loadtests", "open", "--host", overloaded_url, "--ramp", "--seconds", "0.5")
    done = run(*command, "--folder", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert "saturated at 0.0/s" in done.stdout
    assert "none" in done.stdout


def test_no_service_is_told(tmp_path: Path) -> None:
    host = f"http://127.0.0.1:{free_port()}"
    done = run("loadtests", "open", "--host", host, "--folder", str(tmp_path / "run"))
    assert done.returncode == 1
    assert "no service at" in done.stderr
