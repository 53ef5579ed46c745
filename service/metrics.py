"""Owns every metric. Never labels by user, item or anything else without a bound.

The registry is passed in, so that two apps can live in one process.
"""

import math
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from service.cost import CostModel

_SECONDS = tuple(0.0005 * 1.6**k for k in range(20))  # 0.5 ms to 3.8 s
_REQUESTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
_ROWS = tuple(64 * 2**k for k in range(10))  # to 32,768


class Metrics:
    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry = registry or CollectorRegistry()
        ProcessCollector(registry=registry)  # its memory, processor time and open files
        self.requests = Counter(
            "mfalcon_requests",
            "Answers by route and status; disconnected: the client went before the answer",
            ["route", "status"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "mfalcon_request_seconds",
            "Time from the first byte in to the last byte out",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "mfalcon_stage_seconds",
            "Time by stage of a recommendation: queue, cache, encode, score, write",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.lookups = Counter(
            "mfalcon_cache_lookups",
            "State lookups by tier and status",
            ["tier", "status"],
            registry=registry,
        )
        self.sources = Counter(
            "mfalcon_state_source",
            "Requests by where their history came from: device, memory, redis, provider; "
            "recomputed: a stored state was not worth fetching; none: from the request alone",
            ["source"],
            registry=registry,
        )
        self.state_bytes = Counter(
            "mfalcon_state_bytes",
            "Bytes of states into and out of a tier",
            ["tier", "direction"],
            registry=registry,
        )
        self.history_requests = Counter(
            "mfalcon_history_requests",
            "Questions to the history provider: found, none, failed, skipped after failures",
            ["outcome"],
            registry=registry,
        )
        self._costs = Gauge(
            "mfalcon_cost_seconds",
            "What fetch or recompute is decided by: round_trip, fetched_mib, encoded_row; "
            "NaN while unknown",
            ["of"],
            registry=registry,
        )
        self._evictions = _Evictions()
        registry.register(self._evictions)
        self.batch_requests = Histogram(
            "mfalcon_batch_requests",
            "Requests run together, updates of states included",
            buckets=_REQUESTS,
            registry=registry,
        )
        self.batch_rows = Histogram(
            "mfalcon_batch_rows",
            "What they were expected to cost: event rows, candidates, and a part per request",
            buckets=_ROWS,
            registry=registry,
        )
        self.rows = Counter(
            "mfalcon_event_rows",
            "Event rows of recommendations: reused from the state, and encoded",
            ["kind"],
            registry=registry,
        )
        self.candidates = Counter(
            "mfalcon_candidates",
            "Candidates scored, and left unscored at the deadline",
            ["kind"],
            registry=registry,
        )
        self.degraded = Counter(
            "mfalcon_degraded", "Answers by what they left out", ["reason"], registry=registry
        )
        self.refusals = Counter(
            "mfalcon_refusals",
            "Requests answered 429: late, those ahead take longer than the budget; full, the queue "
            "is; user, too many of the user's requests are in flight",
            ["reason"],
            registry=registry,
        )
        self.store_errors = Counter(
            "mfalcon_store_errors", "Store operations that failed", ["op"], registry=registry
        )
        self.breaker_open = Gauge(
            "mfalcon_store_breaker_open",
            "Redis servers, sentinels included, that are left alone after failures in a row",
            registry=registry,
        )
        self.breaker_changes = Counter(
            "mfalcon_store_breaker_changes",
            "Changes of a Redis server's circuit breaker, by the state after it",
            ["state"],
            registry=registry,
        )
        self.write_conflicts = Counter(
            "mfalcon_state_write_conflicts",
            "State writes that lost to another writer and were redone",
            registry=registry,
        )
        self.unstored = Counter(
            "mfalcon_unstored",
            "Requests whose events were not stored: gone, their state was deleted or evicted since "
            "it was read; overtaken by other writers; store, it did not answer or had no room; "
            "history, the provider did not answer; error, as logged",
            ["reason"],
            registry=registry,
        )
        self.queue_depth = Gauge(
            "mfalcon_queue_requests", "Requests waiting for the engine", registry=registry
        )
        self.queue_seconds = Gauge(
            "mfalcon_queue_seconds",
            "How long a request that came now is expected to wait for the engine",
            registry=registry,
        )
        self.info = Gauge(
            "mfalcon_info",
            "The loaded checkpoint",
            ["version", "checkpoint", "fingerprint"],
            registry=registry,
        )

    def watch_costs(self, costs: CostModel) -> None:
        fetch, encode = costs.fetch, costs.encode
        of = self._costs.labels
        of("round_trip").set_function(lambda: _known(fetch.fixed_s))
        of("fetched_mib").set_function(lambda: _known(fetch.per_unit_s) * (1 << 20))
        of("encoded_row").set_function(lambda: _known(encode.per_unit_s))

    def watch_evictions(self, tier: str, count: Callable[[], int]) -> None:
        """Count what a tier of this process dropped for want of space; Redis counts its own."""
        self._evictions.counts[tier] = count

    def exposition(self) -> bytes:
        return generate_latest(self.registry)


def _known(seconds: float | None) -> float:
    return math.nan if seconds is None else seconds


class _Evictions(Collector):
    """Reads counts that others keep."""

    def __init__(self) -> None:
        self.counts: dict[str, Callable[[], int]] = {}

    def collect(self) -> Iterator[Metric]:
        found = CounterMetricFamily(
            "mfalcon_evictions", "States dropped for want of space in a tier", labels=["tier"]
        )
        for tier, count in self.counts.items():
            found.add_metric([tier], count())
        yield found
