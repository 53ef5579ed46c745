from pathlib import Path

import pytest

from loadtests.record import Record
from loadtests.slo import DEFAULT, SloError, judge, load
from tests.loadtests.records import MIB, make_reading, make_record, make_sample


def told(tmp_path: Path, record: Record, text: str) -> list[str]:
    path = tmp_path / "slo.toml"
    path.write_text(text)
    return [str(verdict) for verdict in judge(record, load(path))]


RECORD = make_record([make_sample(second, latency_ms=10.0 + second) for second in range(10)])
SENT = "pass  all.requests: 10, wanted >= 1"


def test_each_bound_has_a_line(tmp_path: Path) -> None:
    text = """
    [recommend]
    p99_ms = "<= 18"
    p50_ms = "<= 14"
    hit_ratio = ">= 0.9"
    [events]
    p99_ms = "<= 5"
    """
    assert told(tmp_path, RECORD, text) == [
        SENT,
        "FAIL  recommend.p99_ms: 19, wanted <= 18",
        "pass  recommend.p50_ms: 14, wanted <= 14",
        "pass  recommend.hit_ratio: 1, wanted >= 0.9",
        "skip  events.p99_ms: not measured, wanted <= 5",
    ]


def test_what_must_be_measured_fails_where_it_was_not(tmp_path: Path) -> None:
    text = 'must_measure = ["run.memory_growth"]\n[run]\nmemory_growth = "<= 0.01"\n'
    assert told(tmp_path, RECORD, text) == [
        SENT,
        "FAIL  run.memory_growth: not measured, wanted <= 0.01",
    ]


def test_what_a_load_test_that_stood_still_broke_is_void(tmp_path: Path) -> None:
    text = """
    [recommend]
    p99_ms = "<= 15"
    p50_ms = "<= 14"
    [run]
    memory_growth = "<= 0.01"
    """
    readings = [make_reading(at_s, resident_bytes=(100 + at_s) * MIB) for at_s in (0, 1, 4, 5, 6)]
    record = make_record(RECORD.samples, readings=readings)
    assert told(tmp_path, record, text) == [
        SENT,
        "void  recommend.p99_ms: 19, wanted <= 15; the load test itself stood still for 2.0 s",
        "pass  recommend.p50_ms: 14, wanted <= 14",
        "FAIL  run.memory_growth: 0.0495, wanted <= 0.01",
    ]


def test_a_run_that_sent_nothing_fails() -> None:
    assert [verdict.passed for verdict in judge(make_record(), [])] == [False]


def test_the_default_bounds_are_read_and_a_good_run_keeps_them() -> None:
    assert all(verdict.passed for verdict in judge(RECORD, load(DEFAULT)))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[other]", "other: there are all, recommend"),
        ('[all]\np98_ms = "<= 5"', r"all\.p98_ms"),
        ("[all]\np99_ms = 5", r"all\.p99_ms: 5 is not a bound"),
        ('[all]\np99_ms = "< 5"', "is not a bound"),
        ('[all]\np99_ms = "<= much"', "is not a bound"),
        ('must_measure = ["run.recovery_s"]', "no bound is set for run.recovery_s"),
        ("[all", "slo.toml"),
    ],
)
def test_what_is_not_understood_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(SloError, match=named):
        told(tmp_path, RECORD, text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SloError, match=r"none\.toml"):
        load(tmp_path / "none.toml")
