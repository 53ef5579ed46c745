"""Owns the line that says every few seconds how the service is doing; made of the metrics alone.

Never tells more than `/metrics` does.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

import structlog
from prometheus_client import CollectorRegistry

_log = structlog.get_logger("mfalcon.status")
_ASKED = ("/recommend", "/recommend/batch", "/events")
"""Routes whose requests count. Those of batches count as one."""

Labels = dict[str, str]


class StatusLine:
    """Tells what happened since it last did; nothing where nothing was asked."""

    def __init__(self, registry: CollectorRegistry, every_s: float) -> None:
        self._registry, self._every_s = registry, every_s
        self._before = Snapshot(registry)
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        if self._every_s:
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            self.tell(self._every_s)

    def tell(self, seconds: float) -> None:
        """Of a period that lasted so long."""
        now, before = Snapshot(self._registry), self._before
        self._before = now
        facts = now.since(before, seconds)
        if facts:
            _log.info("status", **facts)


class Snapshot:
    """All samples of a registry at one time."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._samples: dict[str, dict[tuple[tuple[str, str], ...], float]] = defaultdict(dict)
        for family in registry.collect():
            for sample in family.samples:
                self._samples[sample.name][tuple(sorted(sample.labels.items()))] = sample.value

    def since(self, before: "Snapshot", seconds: float) -> dict[str, object]:
        """What happened in these seconds, and how things are now; empty if nothing was asked."""

        def counted(name: str, **labels: str) -> float:
            return self._sum(name, labels) - before._sum(name, labels)

        asked = sum(counted("mfalcon_requests_total", route=route) for route in _ASKED)
        if not asked:
            return {}
        lookups = counted("mfalcon_cache_lookups_total")
        hits = {
            tier: round(
                counted("mfalcon_cache_lookups_total", tier=tier, status="hit") / lookups, 3
            )
            for tier in self._values("mfalcon_cache_lookups_total", "tier")
            if lookups
        }
        batches = counted("mfalcon_batch_requests_count")
        return {
            "per_s": round(asked / seconds, 2),
            "p50_ms": self._quantile_ms(before, 0.5),
            "p99_ms": self._quantile_ms(before, 0.99),
            "in_flight": int(self._sum("mfalcon_inflight_requests")),
            "waiting": int(self._sum("mfalcon_queue_requests")),
            "batch": round(counted("mfalcon_batch_requests_sum") / batches, 2) if batches else None,
            "hits": hits,
            "refused": int(counted("mfalcon_requests_total", status="429")),
            "degraded": int(counted("mfalcon_degraded_total")),
            "state_bytes": int(self._sum("mfalcon_held_bytes")),
        }

    def _quantile_ms(self, before: "Snapshot", share: float) -> float | None:
        """Of /recommend: as Prometheus reckons it, evenly spread within a bucket."""
        name, route = "mfalcon_request_seconds_bucket", {"route": "/recommend"}
        edges = [(float(edge), edge) for edge in self._values(name, "le")]
        cumulative = [(0.0, 0.0)] + [
            (limit, self._sum(name, route | {"le": edge}) - before._sum(name, route | {"le": edge}))
            for limit, edge in sorted(edges)
        ]
        rank = share * cumulative[-1][1]
        for (low, below), (high, upto) in pairwise(cumulative):
            if upto >= rank and upto > below:
                within = (rank - below) / (upto - below)
                seconds = low if math.isinf(high) else low + within * (high - low)
                return round(seconds * 1000, 2)
        return None

    def _matching(self, name: str, labels: Labels) -> Iterator[tuple[Labels, float]]:
        for key, value in self._samples.get(name, {}).items():
            found = dict(key)
            if labels.items() <= found.items():
                yield found, value

    def _sum(self, name: str, labels: Labels | None = None) -> float:
        return sum(value for _, value in self._matching(name, labels or {}))

    def _values(self, name: str, label: str) -> list[str]:
        return sorted({found[label] for found, _ in self._matching(name, {})})
