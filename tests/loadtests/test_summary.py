from io import StringIO

import pytest
from rich.console import Console

from loadtests.record import Record
from loadtests.summary import Figures, Summary, percentile
from tests.loadtests.records import fault, make_record, make_sample

REFUSED = {"status": 429, "code": "overloaded", "complete": False, "cache_status": ""}
LOST = {"status": 0, "code": "TimeoutError", "complete": False, "cache_status": ""}


def rendered(record: Record) -> str:
    console = Console(width=120, file=StringIO())
    console.print(Summary.of(record).table("a run"))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("percent", "expected"), [(50, 10.25), (95, 19.25), (99, 20.25), (0, 1.25), (100, 20.25)]
)
def test_percentiles_are_values_that_were_measured(percent: int, expected: float) -> None:
    assert percentile([value + 0.25 for value in range(1, 21)], percent) == expected


def test_percentiles_of_one_and_of_none() -> None:
    assert percentile([3.5], 99) == 3.5
    assert percentile([], 50) is None


def test_a_known_run() -> None:
    samples = [
        make_sample(0, latency_ms=4.125),
        make_sample(1, latency_ms=1.5, reused_events=0, cache_status="miss"),
        make_sample(2, latency_ms=60.0, complete=False),
        make_sample(3, latency_ms=0.25, **REFUSED),
        make_sample(10, latency_ms=0, **LOST),
    ]
    assert Figures.of(samples, budget_ms=50) == Figures(
        requests=5,
        requests_per_s=0.5,
        failed=0.4,
        errors=0.2,
        refused=0.2,
        p50_ms=4.125,
        p95_ms=60.0,
        p99_ms=60.0,
        in_budget=0.4,
        complete=2 / 3,
        hit_ratio=2 / 3,
        reused=180 / 210,
    )


def test_what_can_not_be_told_is_none() -> None:
    figures = Figures.of([], budget_ms=None)
    assert figures.requests == 0
    assert figures.p99_ms is figures.failed is figures.in_budget is figures.requests_per_s is None
    told = Figures.of([make_sample(kind="events", cache_status="", reused_events=0)], None)
    assert told.hit_ratio is None
    assert told.complete == 1.0


def test_each_kind_and_what_was_sent_in_faults_have_figures_of_their_own() -> None:
    samples = [
        make_sample(0),
        make_sample(1, kind="batch"),
        make_sample(2.5, kind="events", **LOST),
        make_sample(4),
    ]
    figures = Summary.of(make_record(samples, marks=[fault(2, 3)])).figures
    assert list(figures) == ["all", "batch", "events", "recommend", "faults"]
    assert [each.requests for each in figures.values()] == [4, 1, 1, 2, 1]
    assert figures["faults"].errors == 1.0
    assert "faults" not in Summary.of(make_record(samples)).figures


def test_reasons_are_counted() -> None:
    samples = [make_sample(0, **REFUSED), make_sample(1, **REFUSED), make_sample(2, **LOST)]
    summary = Summary.of(make_record(samples))
    assert summary.failure_reasons == {"429 overloaded": 2, "no whole answer: TimeoutError": 1}


def test_the_table_shows_every_figure() -> None:
    samples = [make_sample(0, latency_ms=2.25), make_sample(10, latency_ms=2.25, **REFUSED)]
    text = rendered(make_record(samples, budget_ms=50))
    for shown in ("2.25", "0.2", "50.00%", "1 x 429 overloaded", "1 x hit"):
        assert shown in text
    assert rendered(make_record()).count("- │") == 11
