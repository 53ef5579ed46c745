"""Owns every metric. Never labels by user, item or anything else without a bound.

The registry is passed in, so that two apps can live in one process.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = tuple(0.0005 * 1.6**k for k in range(20))  # 0.5 ms to 3.8 s


class Metrics:
    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry = registry or CollectorRegistry()
        self.requests = Counter(
            "mfalcon_requests",
            "Answers by route and status",
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
        self.rows = Counter(
            "mfalcon_event_rows",
            "Event rows reused from the state, and encoded",
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
        self.queue_depth = Gauge(
            "mfalcon_queue_requests", "Requests waiting for the engine", registry=registry
        )
        self.info = Gauge(
            "mfalcon_info",
            "The loaded checkpoint",
            ["version", "checkpoint", "fingerprint"],
            registry=registry,
        )

    def exposition(self) -> bytes:
        return generate_latest(self.registry)
