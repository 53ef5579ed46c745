"""What a run showed, read from its record: figures of its requests, and the table of them.

Owns how the figures are counted. Never sends anything and never judges (slo).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from math import ceil
from typing import Any, Final, Self

from rich.table import Table

from loadtests.record import Record, Sample

ALL: Final = "all"
FAULTS: Final = "faults"

_OK = 200
_TOO_MANY = 429
_SERVER_ERROR = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of some requests; what can not be told is None. Shares are of 0 to 1.

    Percentiles are over answered requests: a quick refusal must not look like a quick answer.
    """

    requests: int
    requests_per_s: float | None
    failed: float | None  # share without the answer asked for, refused ones among them
    errors: float | None  # share that the service failed: 5xx, or no whole answer
    refused: float | None  # share of 429
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    in_budget: float | None  # share answered within the run's budget
    complete: float | None  # share of the answered
    hit_ratio: float | None  # of the answers that tell of the cache
    reused: float | None  # share of event rows that were not encoded again

    @classmethod
    def of(cls, samples: Sequence[Sample], budget_ms: float | None) -> Self:
        answered = [each for each in samples if is_answered(each)]
        latencies_ms = sorted(each.latency_ms for each in answered)
        cached = [each for each in answered if each.cache_status]
        num_reused = sum(each.reused_events for each in cached)
        num_rows = num_reused + sum(each.encoded_events for each in cached)
        num_errors = sum(not each.status or each.status >= _SERVER_ERROR for each in samples)
        num_in_budget = sum(latency_ms <= (budget_ms or 0) for latency_ms in latencies_ms)
        return cls(
            requests=len(samples),
            requests_per_s=_per(len(samples), _lasted_s(samples)),
            failed=_per(len(samples) - len(answered), len(samples)),
            errors=_per(num_errors, len(samples)),
            refused=_per(sum(each.status == _TOO_MANY for each in samples), len(samples)),
            p50_ms=percentile(latencies_ms, 50),
            p95_ms=percentile(latencies_ms, 95),
            p99_ms=percentile(latencies_ms, 99),
            in_budget=None if budget_ms is None else _per(num_in_budget, len(samples)),
            complete=_per(sum(each.complete for each in answered), len(answered)),
            hit_ratio=_per(sum(each.cache_status == "hit" for each in cached), len(cached)),
            reused=_per(num_reused, num_rows),
        )


def is_answered(sample: Sample) -> bool:
    """Whether the service did what it was asked, if perhaps not all of it in time."""
    return sample.status == _OK and not sample.code


def scopes(record: Record) -> dict[str, list[Sample]]:
    """The samples of all requests, of each kind that was sent, and of those sent during faults."""
    found = {ALL: record.samples}
    for kind in sorted({each.kind for each in record.samples}):
        found[kind] = [each for each in record.samples if each.kind == kind]
    faults = [mark for mark in record.marks if mark.is_fault]
    if faults:
        found[FAULTS] = [
            each
            for each in record.samples
            if any(mark.at_s <= each.at_s <= mark.until_s for mark in faults)
        ]
    return found


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of each scope, and why requests failed."""

    figures: dict[str, Figures]
    failure_reasons: dict[str, int]
    cache_status: dict[str, int]

    @classmethod
    def of(cls, record: Record) -> Self:
        failed = (each for each in record.samples if not is_answered(each))
        statuses = Counter(each.cache_status for each in record.samples if each.cache_status)
        return cls(
            figures={
                scope: Figures.of(samples, record.run.budget_ms)
                for scope, samples in scopes(record).items()
            },
            failure_reasons=dict(Counter(map(_reason, failed)).most_common()),
            cache_status=dict(statuses.most_common()),
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def table(self, title: str) -> Table:
        """The figures for people, a column for each scope."""
        table = Table("", *self.figures, title=title, title_justify="left")
        for column in table.columns[1:]:
            column.justify = "right"
        for name in (each.name for each in fields(Figures)):
            values = [getattr(figures, name) for figures in self.figures.values()]
            table.add_row(name, *(shown(name, value) for value in values))
        for title, counts in (("failures", self.failure_reasons), ("cache", self.cache_status)):
            if counts:
                told = "\n".join(f"{num:,} x {what}" for what, num in counts.items())
                table.add_row(title, told)
        return table


def shown(name: str, value: float | None) -> str:
    """A figure for people: milliseconds, a count or rate, or a share."""
    if value is None:
        return "-"
    if name.endswith("_ms"):
        return f"{value:.2f}"
    if name == "requests":
        return f"{value:,}"
    return f"{value:.1f}" if name.endswith("_per_s") else f"{100 * value:.2f}%"


def percentile(ascending: Sequence[float], percent: int) -> float | None:
    """The nearest-rank percentile: the smallest value that `percent` % of values do not exceed."""
    if not ascending:
        return None
    # Whole numbers until the last division: 0.95 * 20 in floats would step past 19.
    return ascending[max(ceil(percent * len(ascending) / 100), 1) - 1]


def _reason(sample: Sample) -> str:
    return f"{sample.status} {sample.code}" if sample.status else f"no whole answer: {sample.code}"


def _lasted_s(samples: Sequence[Sample]) -> float:
    ends = [each.at_s + each.latency_ms / 1000 for each in samples]
    return max(ends) - min(each.at_s for each in samples) if samples else 0.0


def _per(part: float, whole: float) -> float | None:
    return part / whole if whole else None
