"""Owns every metric. Never labels by user, item or anything else without a bound.

The registry is passed in, so that two apps can live in one process. Ratios are left to who reads:
what was reused and what was encoded, what was a hit and what was looked up, are counters in pairs.
"""

import math
import platform
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from service.cost import CostModel

_SECONDS = tuple(0.0005 * 1.6**k for k in range(20))  # 0.5 ms to 3.8 s
_REQUESTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
_ROWS = tuple(64 * 2**k for k in range(10))  # to 32,768


class Metrics:
    """Attributes are metrics; whoever knows what happened moves them."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry = registry or CollectorRegistry()
        self._add_process(registry)
        self._add_requests(registry)
        self._add_states(registry)
        self._add_engine(registry)
        self._add_store(registry)
        self._add_shadow(registry)

    def _add_process(self, registry: CollectorRegistry) -> None:
        ProcessCollector(registry=registry)  # its memory, processor time and open files
        build = Gauge(
            "mfalcon_build_info",
            "What is running",
            ["version", "python", "torch"],
            registry=registry,
        )
        build.labels(version("mfalcon"), platform.python_version(), version("torch")).set(1)
        self._model = Gauge(
            "mfalcon_info",
            "The loaded checkpoint",
            ["version", "checkpoint", "fingerprint"],
            registry=registry,
        )
        self._loaded_at = Gauge(
            "mfalcon_model_loaded_timestamp_seconds",
            "When the checkpoint began to serve, in Unix time",
            registry=registry,
        )
        self.ready = Gauge("mfalcon_ready", "1 while requests are taken", registry=registry)
        self.alive = Gauge(
            "mfalcon_alive", "0 once the engine thread died or hangs", registry=registry
        )

    def _add_requests(self, registry: CollectorRegistry) -> None:
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
        self.in_flight = Gauge(
            "mfalcon_inflight_requests",
            "Requests that are not answered yet; those of /health and /metrics count",
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "mfalcon_stage_seconds",
            "Time by stage of a recommendation: queue, cache, encode, score, write",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.late = Counter(
            "mfalcon_late", "Recommendations answered after their deadline", registry=registry
        )
        self.degraded = Counter(
            "mfalcon_degraded", "Answers by what they left out", ["reason"], registry=registry
        )

    def _add_states(self, registry: CollectorRegistry) -> None:
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
        self._tiers = _Tiers()
        registry.register(self._tiers)

    def _add_engine(self, registry: CollectorRegistry) -> None:
        self.queue_seconds = Gauge(
            "mfalcon_queue_seconds",
            "How long a request that came now is expected to wait for the engine",
            registry=registry,
        )
        self.queue_depth = Gauge(
            "mfalcon_queue_requests", "Requests waiting for the engine", registry=registry
        )
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
        self._costs = Gauge(
            "mfalcon_cost_seconds",
            "What fetch or recompute is decided by: round_trip, fetched_mib, encoded_row; "
            "NaN while unknown",
            ["of"],
            registry=registry,
        )

    def _add_store(self, registry: CollectorRegistry) -> None:
        self.store_seconds = Histogram(
            "mfalcon_store_seconds",
            "Time of a store operation that was answered: head, get, append, put",
            ["tier", "op"],
            buckets=_SECONDS,
            registry=registry,
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

    def _add_shadow(self, registry: CollectorRegistry) -> None:
        self.shadow_checks = Counter(
            "mfalcon_shadow_checks",
            "Answers taken to be compared with the oracle: equal, or as near as the dtypes allow; "
            "differs; skipped: too many, too long a history, or no oracle",
            ["outcome"],
            registry=registry,
        )
        self.shadow_differences = Histogram(
            "mfalcon_shadow_difference",
            "Largest difference to the oracle of an answer compared: of logits in float32, else in "
            "shares of the largest logit",
            buckets=tuple(10.0**k for k in range(-8, 2)),
            registry=registry,
        )
        self.shadow_largest = Gauge(
            "mfalcon_shadow_largest_difference", "Of all answers compared", registry=registry
        )
        self.shadow_allowed = Gauge(
            "mfalcon_shadow_allowed_difference",
            "Beyond it an answer is wrong; in the unit of the others",
            registry=registry,
        )

    def serves(self, checkpoint: str, fingerprint: str) -> None:
        """From now on, and no other."""
        self._model.clear()
        self._model.labels(version("mfalcon"), checkpoint, fingerprint).set(1)
        self._loaded_at.set(time.time())

    def watch_costs(self, costs: CostModel) -> None:
        fetch, encode = costs.fetch, costs.encode
        of = self._costs.labels
        of("round_trip").set_function(lambda: _known(fetch.fixed_s))
        of("fetched_mib").set_function(lambda: _known(fetch.per_unit_s) * (1 << 20))
        of("encoded_row").set_function(lambda: _known(encode.per_unit_s))

    def watch_tier(
        self, tier: str, num_bytes: Callable[[], int], evictions: Callable[[], int]
    ) -> None:
        """What a tier of this process holds, and what it dropped; Redis tells its own."""
        self._tiers.of[tier] = (num_bytes, evictions)

    def exposition(self) -> bytes:
        return generate_latest(self.registry)


def _known(seconds: float | None) -> float:
    return math.nan if seconds is None else seconds


class _Tiers(Collector):
    """Reads what the tiers count themselves."""

    def __init__(self) -> None:
        self.of: dict[str, tuple[Callable[[], int], Callable[[], int]]] = {}

    def collect(self) -> Iterator[Metric]:
        held = GaugeMetricFamily(
            "mfalcon_held_bytes",
            "Bytes of the states held in a tier of this process",
            labels=["tier"],
        )
        dropped = CounterMetricFamily(
            "mfalcon_evictions", "States dropped for want of space in a tier", labels=["tier"]
        )
        for tier, (num_bytes, evictions) in self.of.items():
            held.add_metric([tier], num_bytes())
            dropped.add_metric([tier], evictions())
        yield held
        yield dropped
