"""Owns what OpenTelemetry is told: spans request > state, queue, encode, score, answer.

Never tells a user, an item or a path. Spans are made once a request's times are known, so that
nothing is done on the engine thread. The provider is the service's own: what else in this process
could be traced (FastAPI by itself tells paths, which hold user ids) finds none.
"""

import asyncio
import time
from typing import Final, Self

import structlog
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.serving import Served

_QUIET: Final = ("/health", "/metrics")
_CONTEXT: Final = (b"traceparent", b"tracestate")


class Tracing:
    """OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER and OTEL_BSP_* hold."""

    def __init__(self, processor: SpanProcessor) -> None:
        """`processor` takes what is sampled to where it is kept."""
        self._provider = TracerProvider()
        self._provider.add_span_processor(processor)
        self.tracer = self._provider.get_tracer("mfalcon")

    @classmethod
    def over_http(cls) -> Self:
        """To where OTEL_EXPORTER_OTLP_* say. Raises ImportError without the exporter."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return cls(BatchSpanProcessor(OTLPSpanExporter()))

    def stages(self, began_s: float, served: Served) -> None:
        """Of a ranked request that began then and is answered now, below the current span."""
        job, ranking, loaded = served.job, served.ranking, served.loaded
        if ranking is None:
            return
        encoded_s = ranking.started_s + ranking.encode_ms / 1000
        scored_s = encoded_s + ranking.score_ms / 1000
        cache = {"mfalcon.cache.status": loaded.status, "mfalcon.cache.tier": loaded.tier or "none"}
        rows = {
            "mfalcon.events.reused": ranking.num_reused,
            "mfalcon.events.encoded": ranking.num_encoded,
        }
        spans: list[tuple[str, float, float, Attributes]] = [
            ("state", began_s, job.submitted_s, cache),
            ("queue", job.submitted_s, ranking.started_s, {}),
            ("encode", ranking.started_s, encoded_s, rows),
            ("score", encoded_s, scored_s, {"mfalcon.candidates.scored": len(ranking.logits)}),
            ("answer", scored_s, time.monotonic(), {}),
        ]
        epoch_s = time.time() - time.monotonic()
        for name, start_s, end_s, attributes in spans:
            span = self.tracer.start_span(
                name, start_time=_nanoseconds(epoch_s + start_s), attributes=attributes
            )
            span.end(_nanoseconds(epoch_s + end_s))

    async def close(self) -> None:
        """Once everything is sent, or could not be."""
        await asyncio.to_thread(self._provider.shutdown)


class TracedRequests:
    """Pure ASGI: a span a request, below its caller's if there is one. Log lines get its trace."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app, self._tracer = app, tracing.tracer
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_QUIET):
            await self._app(scope, receive, send)
            return
        given = {k.decode(): v.decode("latin-1") for k, v in scope["headers"] if k in _CONTEXT}
        method = scope["method"]
        with self._tracer.start_as_current_span(
            method,
            self._propagator.extract(given),
            SpanKind.SERVER,
            {"http.request.method": method},
            record_exception=False,
        ) as span:

            async def watched(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        span.set_status(Status(StatusCode.ERROR))
                await send(message)

            trace_id = f"{span.get_span_context().trace_id:032x}"
            with structlog.contextvars.bound_contextvars(trace_id=trace_id):
                await self._app(scope, receive, watched)
            route = getattr(scope.get("route"), "path", None)
            if route is not None:
                span.update_name(f"{method} {route}")
                span.set_attribute("http.route", route)


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
