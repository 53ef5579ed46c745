"""What a run showed: raw latencies and the facts of every answer, and the table of them.

Owns reading answers, counting them and the percentiles. Never sends anything.

Latencies are kept as floats: Locust's own figures are rounded to whole milliseconds below
100 ms, and to two digits above.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Self

from rich.table import Table

MAX_FAILURE_RATIO = 0.01


class AnswerError(Exception):
    """A request failed; the message is the reason it is counted under."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one successful answer says about itself."""

    cache_status: str
    reused_events: int
    encoded_events: int
    complete: bool

    @classmethod
    def parse(cls, status: int, body: bytes | None) -> Self:
        """Read the answer to `POST /recommend`; raises AnswerError with the reason."""
        try:
            fields = json.loads(body or b"null")
        except ValueError:
            fields = None
        if status != 200:
            code = fields.get("code") if isinstance(fields, dict) else None
            raise AnswerError(f"{status} {code}" if code else f"{status}")
        match fields:
            case {
                "items": list(),
                "complete": bool(complete),
                "cache": {
                    "status": str(cache_status),
                    "reused_events": int(reused_events),
                    "encoded_events": int(encoded_events),
                },
            }:
                return cls(cache_status, reused_events, encoded_events, complete)
        raise AnswerError("200 with an unknown body")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The figures of one run. Ratios and percentiles are None where nothing was answered.

    Percentiles are over answered requests: a quick refusal must not look like a quick answer.
    """

    elapsed_s: float
    requests: int
    failures: int
    failure_reasons: dict[str, int]
    requests_per_s: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    hit_ratio: float | None
    cache_status: dict[str, int]
    reused_events: int
    encoded_events: int
    complete_ratio: float | None

    def problem(self) -> str | None:
        """Why the run does not pass, or None."""
        if not self.requests:
            return "no request was answered"
        if self.failures > MAX_FAILURE_RATIO * self.requests:
            reasons = ", ".join(f"{num} x {reason}" for reason, num in self.failure_reasons.items())
            return f"{self.failures} of {self.requests} requests failed: {reasons}"
        return None

    def table(self, title: str) -> Table:
        """The figures for people, for a rich console."""
        total_events = self.reused_events + self.encoded_events
        reused = self.reused_events / total_events if total_events else None
        statuses = ", ".join(f"{status} {num:,}" for status, num in self.cache_status.items())
        reasons = ", ".join(f"{num:,} x {reason}" for reason, num in self.failure_reasons.items())
        table = Table("figure", "value", title=title, title_justify="left", min_width=64)
        table.add_row("requests", f"{self.requests:,}")
        table.add_row("failures", f"{self.failures:,}" + (f" ({reasons})" if reasons else ""))
        table.add_row("requests/s", f"{self.requests_per_s:.1f}")
        table.add_row("latency p50", _ms(self.p50_ms))
        table.add_row("latency p95", _ms(self.p95_ms))
        table.add_row("latency p99", _ms(self.p99_ms))
        table.add_row(
            "hit ratio", _percent(self.hit_ratio) + (f" ({statuses})" if statuses else "")
        )
        table.add_row("events reused", f"{self.reused_events:,} ({_percent(reused)})")
        table.add_row("events encoded", f"{self.encoded_events:,}")
        table.add_row("complete answers", _percent(self.complete_ratio))
        return table


class Recorder:
    """Counts a run's requests as they end, and sums them up; the run begins with the recorder."""

    def __init__(self, clock_s: Callable[[], float] = time.perf_counter) -> None:
        self._clock_s = clock_s
        self._started_s = clock_s()
        self._latencies_ms: list[float] = []
        self._cache_status: Counter[str] = Counter()
        self._failure_reasons: Counter[str] = Counter()
        self._reused_events = 0
        self._encoded_events = 0
        self._complete = 0

    def answered(self, latency_ms: float, answer: Answer) -> None:
        self._latencies_ms.append(latency_ms)
        self._cache_status[answer.cache_status] += 1
        self._reused_events += answer.reused_events
        self._encoded_events += answer.encoded_events
        self._complete += answer.complete

    def failed(self, reason: str) -> None:
        self._failure_reasons[reason] += 1

    def summary(self) -> Summary:
        """Sum up the run from its beginning until now."""
        elapsed_s = self._clock_s() - self._started_s
        latencies_ms = sorted(self._latencies_ms)
        num_answered = len(latencies_ms)
        num_failed = self._failure_reasons.total()
        return Summary(
            elapsed_s=elapsed_s,
            requests=num_answered + num_failed,
            failures=num_failed,
            failure_reasons=dict(self._failure_reasons.most_common()),
            requests_per_s=(num_answered + num_failed) / elapsed_s,
            p50_ms=percentile(latencies_ms, 50),
            p95_ms=percentile(latencies_ms, 95),
            p99_ms=percentile(latencies_ms, 99),
            hit_ratio=self._cache_status["hit"] / num_answered if num_answered else None,
            cache_status=dict(self._cache_status.most_common()),
            reused_events=self._reused_events,
            encoded_events=self._encoded_events,
            complete_ratio=self._complete / num_answered if num_answered else None,
        )


def percentile(ascending: Sequence[float], percent: int) -> float | None:
    """The nearest-rank percentile: the smallest value that `percent` % of values do not exceed."""
    if not ascending:
        return None
    # Whole numbers until the last division: 0.95 * 20 in floats would step past 19.
    return ascending[max(ceil(percent * len(ascending) / 100), 1) - 1]


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} ms"


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{100 * ratio:.1f}%"
