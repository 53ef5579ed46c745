"""Runs in processes of their own: Locust patches the one that imports it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STRICT = [sys.executable, "-W", "error"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*STRICT, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def test_a_short_run_against_a_service(service_url: str) -> None:
    done = run(
        *("loadtests", "locust", "--host", service_url, "--seconds", "3", "--users", "4"),
        *("--population", "5", "--output", "json"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert report["requests"] > 20
    assert report["failures"] == 0  # so every user's events came in order and within the limits
    assert report["requests_per_s"] == pytest.approx(report["requests"] / report["elapsed_s"])
    assert 0 < report["p50_ms"] <= report["p95_ms"] <= report["p99_ms"]
    assert report["cache_status"]["hit"] + report["cache_status"]["miss"] == report["requests"]
    assert report["cache_status"]["miss"] <= 5  # each user misses once
    assert report["hit_ratio"] == report["cache_status"]["hit"] / report["requests"]
    assert report["reused_events"] > report["encoded_events"] > 0
    assert report["complete_ratio"] == 1.0


def test_failing_requests_fail_the_run(overloaded_url: str) -> None:
    done = run("loadtests", "locust", "--host", overloaded_url, "--seconds", "1", "--users", "2")
    assert done.returncode == 1
    assert "requests failed" in done.stderr
    assert "429 overloaded" in done.stderr
    assert "latency p99" in done.stdout


def test_no_service_fails_the_run() -> None:
    done = run("loadtests", "locust", "--host", "http://127.0.0.1:9", "--seconds", "1")
    assert done.returncode == 1
    assert "no service at http://127.0.0.1:9" in done.stderr
    assert done.stdout == ""


def test_a_remote_host_is_refused() -> None:
    done = run("loadtests", "locust", "--host", "http://192.0.2.1:8000")
    assert done.returncode == 2
    assert "192.0.2.1" in done.stderr
    assert "--allow-remote" in done.stderr


def test_fewer_people_than_drivers_is_refused() -> None:
    done = run("loadtests", "locust", "--users", "4", "--population", "3")
    assert done.returncode == 2
    assert "--population" in done.stderr


LOCUST = ["locust", "-f", "loadtests/locustfile.py", "--headless", "-u", "2", "-t", "1s"]


def test_the_locustfile_runs_on_its_own(service_url: str) -> None:
    done = run(*LOCUST, "--host", service_url, "--population", "20")
    assert done.returncode == 0, done.stderr
    assert "hit ratio" in done.stdout


def test_the_locustfile_refuses_a_remote_host() -> None:
    done = run(*LOCUST, "--host", "http://192.0.2.1:8000")
    assert done.returncode == 1
    assert "--allow-remote" in done.stderr
