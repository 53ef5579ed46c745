"""Owns the judgement of a fault by what was answered meanwhile."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from loadtests.faults.fault import OK, Course, Fault
from loadtests.record import Sample
from loadtests.summary import percentile

RECOVERY_S: Final = 2.0
CALM_S: Final = 1.0
BEFORE_S: Final = 3.0
ANSWERED: Final = 0.95
"""Of what is sent; the rest may be refused."""
WATCHED_S: Final = 4.0
"""After a fault has gone: long enough to see that it was not survived in time."""
OTHERS_MAY: Final = 0.2
"""Share of the processor time that others may take in any second, if lateness is to be judged: one
such second is more than the hundredth of the requests that p99 leaves out."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one fault; it passed without `failures` and `doubts`.

    Skipped: it was not done, and why.
    """

    name: str
    expectation: str
    seen: str
    failures: list[str]
    doubts: list[str] = field(default_factory=list)
    """What would be failures, had the service had the machine for itself."""
    is_skipped: bool = False

    @property
    def is_judged(self) -> bool:
        return bool(self.failures) or not self.doubts

    @property
    def word(self) -> str:
        if self.is_skipped:
            return "skipped"
        if not self.is_judged:
            return "not judged: " + "; ".join(self.doubts)
        return "fails: " + "; ".join(self.failures) if self.failures else "holds"


def judge(
    fault: Fault,
    course: Course,
    samples: Sequence[Sample],
    budget_ms: float,
    others: float,
) -> Verdict:
    """Scores are judged elsewhere.

    Args:
        samples: the whole run's.
        others: the largest share of the processor time that they took in a second meanwhile.
    """
    meant = [each for each in samples if is_between(each, course)]
    up = [each for each in meant if not _meets_outage(each, course)]
    failures, statuses = list(course.failures), Counter(each.status for each in up)
    seen = [", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))]
    if bad := statuses.keys() - fault.statuses:
        failures.append(f"answered {', '.join(map(str, sorted(bad)))}")
    late = []
    if statuses[200] < ANSWERED * len(up) or not up:
        late.append("too few were answered")
    if fault.with_p99:
        p99_ms = _p99_ms(up)
        seen.append(f"p99 {p99_ms:.0f} ms (before: {_p99_ms(_before(samples, course)):.0f} ms)")
        if p99_ms > budget_ms:
            late.append(f"p99 is beyond {budget_ms:.0f} ms")
    back_s = recovery_s(up, course)
    seen.append(f"back in {back_s:.1f} s")
    if back_s > RECOVERY_S:
        late.append(f"not back within {RECOVERY_S:.0f} s")
    seen += course.findings
    doubts = []
    if late and others > OTHERS_MAY:
        doubts = [*late, f"but others took {others:.0%} of the processor time in a second"]
    else:
        failures += late
    return Verdict(fault.name, fault.expectation, ", ".join(seen), failures, doubts)


def _before(samples: Sequence[Sample], course: Course) -> list[Sample]:
    """What the machine had to say without the fault."""
    since_s = course.began_s - BEFORE_S
    return [each for each in samples if since_s <= each.at_s < course.began_s]


def _p99_ms(samples: Sequence[Sample]) -> float:
    """Of those that come with a budget."""
    latencies_ms = sorted(each.latency_ms for each in samples if each.kind == "recommend")
    return percentile(latencies_ms, 99) or 0.0


def is_between(sample: Sample, course: Course) -> bool:
    return course.began_s <= sample.at_s < course.ended_s + WATCHED_S


def recovery_s(samples: Sequence[Sample], course: Course) -> float:
    """From a fault's end until the first second in which no request that was sent met it."""
    back_s = 0.0
    for met_s in sorted(each.at_s - course.ended_s for each in samples if _shows_fault(each)):
        if met_s - back_s >= CALM_S:
            break
        back_s = max(back_s, met_s)
    return back_s


def _shows_fault(sample: Sample) -> bool:
    """Of an answer of /events, whole means stored."""
    is_unstored = sample.kind == "events" and sample.status == 200 and not sample.complete
    return sample.status not in OK or sample.cache_status == "error" or is_unstored


def _meets_outage(sample: Sample, course: Course) -> bool:
    """Whether the service was away at any time between the request's time and its answer."""
    answered_s = sample.at_s + sample.latency_ms / 1000
    return any(sample.at_s <= until_s and answered_s >= at_s for at_s, until_s in course.outages)
