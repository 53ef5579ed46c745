"""Owns counting, timing and logging a request that has been answered. Never knows who asked."""

from functools import cache

import structlog

from service.logs import RequestLog
from service.metrics import Metrics

_log = structlog.get_logger("mfalcon.http")
_QUIET = ("/health", "/metrics")


class Tally:
    """For one service."""

    def __init__(self, metrics: Metrics) -> None:
        self._tell = RequestLog(_log)
        self._count = cache(metrics.requests.labels)  # looking them up takes longer than counting
        self._time = cache(metrics.request_seconds.labels)

    def done(self, route: str, request_id: str, status: int | None, seconds: float) -> None:
        """`route` is its template, never the path: paths hold user ids. `status` is None if the
        client went away before there was one."""
        self._count(route, str(status or "disconnected")).inc()
        self._time(route).observe(seconds)
        if not route.startswith(_QUIET):
            ms = round(seconds * 1000, 2)
            self._tell(request_id=request_id, route=route, status=status, ms=ms)
