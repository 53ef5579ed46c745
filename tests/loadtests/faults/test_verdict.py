from typing import Any

from loadtests.faults.fault import Course, Fault
from loadtests.faults.verdict import judge, recovery_s
from loadtests.record import Sample

BUDGET_MS = 100.0
COURSE = Course(10.0, 20.0)


class Harm(Fault):
    name = "harm"


def sample(at_s: float, **more: Any) -> Sample:
    fields: dict[str, Any] = {
        "waited_ms": 0.0,
        "latency_ms": 10.0,
        "kind": "recommend",
        "user": "returning",
        "status": 200,
        "complete": True,
        "cache_status": "hit",
    }
    return Sample(at_s=at_s, **(fields | more))


CALM = [sample(5 + number / 10) for number in range(200)]


def failures(*more: Sample, course: Course = COURSE) -> list[str]:
    return judge(Harm(), course, [*CALM, *more], BUDGET_MS, others=0.0).failures


def test_nothing_seen_of_a_fault_holds() -> None:
    assert failures() == []
    assert failures(sample(5.0, status=500), sample(25.0, status=500)) == []


def test_a_refusal_is_allowed_and_an_error_is_not() -> None:
    assert failures(sample(15.0, status=429, cache_status="")) == []
    assert failures(sample(15.0, status=503, cache_status="")) == ["answered 503"]
    assert failures(sample(15.0, status=0, cache_status="")) == ["answered 0"]
    refusals = [sample(15.0 + number / 100, status=429) for number in range(20)]
    assert failures(*refusals) == ["too few were answered"]


def test_the_budget_is_for_all_but_a_hundredth() -> None:
    slow = [sample(15.0, latency_ms=500.0), sample(15.1, latency_ms=500.0)]
    assert failures(slow[0]) == []
    assert failures(*slow) == ["p99 is beyond 100 ms"]


def test_lateness_while_others_took_the_processor_is_not_judged() -> None:
    late = [*CALM, *[sample(at_s, latency_ms=500.0) for at_s in (15.0, 15.1)]]
    found = judge(Harm(), COURSE, late, BUDGET_MS, others=0.5)
    assert not found.is_judged
    assert found.word == (
        "not judged: p99 is beyond 100 ms; but others took 50% of the processor time in a second"
    )
    assert judge(Harm(), COURSE, CALM, BUDGET_MS, others=0.5).word == "holds"


def test_what_is_wrong_has_no_excuse() -> None:
    wrong = [*CALM, *[sample(15.0, latency_ms=500.0, status=500) for _ in range(2)]]
    found = judge(Harm(), COURSE, wrong, BUDGET_MS, others=0.9)
    assert found.is_judged
    assert found.word == "fails: answered 500"


def met(*times_s: float) -> list[Sample]:
    return [sample(at_s, cache_status="error") for at_s in times_s]


def test_recovery_lasts_until_a_second_without_the_fault() -> None:
    unstored = sample(20.9, kind="events", complete=False)
    assert recovery_s([*CALM, unstored, *met(21.5)], COURSE) == 1.5
    assert failures(unstored, *met(21.5)) == []
    assert failures(unstored, *met(21.8, 22.5)) == ["not back within 2 s"]
    assert recovery_s([*CALM, *met(15.0, 19.9)], COURSE) == 0.0


def test_a_lone_timeout_long_after_is_not_the_fault() -> None:
    assert recovery_s(met(19.0, 20.5, 23.5), COURSE) == 0.5


def test_what_met_an_outage_that_was_meant_does_not_count() -> None:
    course = Course(10.0, 20.0, outages=[(15.0, 16.0)])
    away = [sample(15.5, status=0), sample(14.9, status=0, latency_ms=200.0)]
    assert failures(*away, course=course) == []
    assert failures(sample(16.1, status=0), course=course) == ["answered 0"]


def test_failures_of_the_course_are_the_verdicts() -> None:
    assert failures(course=Course(10.0, 20.0, failures=["lost"])) == ["lost"]
