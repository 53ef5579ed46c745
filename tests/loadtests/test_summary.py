import json
from io import StringIO

import pytest
from rich.console import Console

from loadtests.summary import Answer, AnswerError, Recorder, Summary, percentile

HIT = Answer(cache_status="hit", reused_events=90, encoded_events=2, complete=True)
MISS = Answer(cache_status="miss", reused_events=0, encoded_events=50, complete=False)


def summary(latencies_ms: list[float], *, num_hits: int = 0, num_failed: int = 0) -> Summary:
    """A run of ten seconds."""
    clock_s = iter((100.0, 110.0))
    recorder = Recorder(lambda: next(clock_s))
    for position, latency_ms in enumerate(latencies_ms):
        recorder.answered(latency_ms, HIT if position < num_hits else MISS)
    for _ in range(num_failed):
        recorder.failed("429 overloaded")
    return recorder.summary()


def rendered(run: Summary) -> str:
    console = Console(width=100, file=StringIO())
    console.print(run.table("a run"))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def body(**changes: object) -> bytes:
    cache = {"status": "hit", "tier": "device", "reused_events": 180, "encoded_events": 1}
    return json.dumps({"items": [], "complete": True, "cache": cache} | changes).encode()


@pytest.mark.parametrize(
    ("percent", "expected"), [(50, 10.25), (95, 19.25), (99, 20.25), (0, 1.25), (100, 20.25)]
)
def test_percentiles_are_values_that_were_measured(percent: int, expected: float) -> None:
    assert percentile([value + 0.25 for value in range(1, 21)], percent) == expected


def test_percentiles_of_one_and_of_none() -> None:
    assert percentile([3.5], 99) == 3.5
    assert percentile([], 50) is None


def test_a_known_run() -> None:
    run = summary([4.125, 1.5, 2.25, 3.75], num_hits=3, num_failed=1)
    assert run == Summary(
        elapsed_s=10.0,
        requests=5,
        failures=1,
        failure_reasons={"429 overloaded": 1},
        requests_per_s=0.5,
        p50_ms=2.25,
        p95_ms=4.125,
        p99_ms=4.125,
        hit_ratio=0.75,
        cache_status={"hit": 3, "miss": 1},
        reused_events=270,
        encoded_events=56,
        complete_ratio=0.75,
    )


@pytest.mark.parametrize(("num_failed", "passes"), [(0, True), (1, True), (2, False)])
def test_one_failure_in_a_hundred_passes(num_failed: int, passes: bool) -> None:
    problem = summary([1.0] * (100 - num_failed), num_failed=num_failed).problem()
    assert (problem is None) == passes
    if problem:
        assert problem == "2 of 100 requests failed: 2 x 429 overloaded"


def test_a_run_without_answers_does_not_pass() -> None:
    assert summary([]).problem() == "no request was answered"
    assert summary([], num_failed=3).hit_ratio is None


def test_the_table_shows_every_figure() -> None:
    text = rendered(summary([4.125, 1.5, 2.25, 3.75], num_hits=3, num_failed=1))
    for shown in ("1 x 429 overloaded", "0.5", "2.25 ms", "75.0%", "hit 3, miss 1", "270 (82.8%)"):
        assert shown in text


def test_the_table_of_nothing_shows_dashes() -> None:
    assert rendered(summary([])).count("│ - ") == 5


def test_an_answer_is_read() -> None:
    assert Answer.parse(200, body()) == Answer("hit", 180, 1, True)


@pytest.mark.parametrize(
    ("status", "content", "reason"),
    [
        (429, b'{"code": "overloaded"}', "429 overloaded"),
        (502, b"<html>", "502"),
        (500, None, "500"),
        (200, b"", "200 with an unknown body"),
        (200, b"[]", "200 with an unknown body"),
        (200, body(items=None), "200 with an unknown body"),
        (200, body(cache={"status": "hit"}), "200 with an unknown body"),
    ],
)
def test_a_failure_has_a_reason(status: int, content: bytes | None, reason: str) -> None:
    with pytest.raises(AnswerError) as raised:
        Answer.parse(status, content)
    assert str(raised.value) == reason
