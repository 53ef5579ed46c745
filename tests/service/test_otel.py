"""Spans tell a request's way and nothing of its user; without the variables nothing is imported."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from service import tracing
from service.app import create_app
from service.configuration import load_settings
from tests.service.builders import JSON, NOW_S, Service, make_events

pytestmark = pytest.mark.anyio
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)


@asynccontextmanager
async def traced(folder: Path, told: Any) -> AsyncIterator[Service]:
    flags = {"checkpoint": folder, "store": "memory", "device": "cpu"}
    app = create_app(load_settings(flags), tracing=told)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://mfalcon") as client,
    ):
        await app.state.runtime.started()
        yield Service(app, client)


async def test_a_request_is_a_span_and_its_stages_follow_each_other(folder: Path) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="the otel extra is not installed")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    otel = pytest.importorskip("service.otel", reason="the otel extra is not installed")
    exporter = InMemorySpanExporter()
    async with traced(folder, otel.Tracing(SimpleSpanProcessor(exporter))) as service:
        body = {"user_id": "hush", "events": make_events(3), "request_time": NOW_S}
        headers = {"traceparent": CALLER}
        answer = await service.client.post("/recommend", json=body, headers=headers)
        assert answer.status_code == 200
        await service.client.get("/users/hush/state")
        await service.client.get("/hush")
        await service.client.post("/recommend", json={})
        await service.client.get("/health/live")
    spans: Any = exporter.get_finished_spans()
    *stages, request, state, unknown, wrong = spans
    assert [span.name for span in stages] == ["state", "queue", "encode", "score", "answer"]
    assert request.name == "POST /recommend"
    assert f"{request.context.trace_id:032x}" == CALLER.split("-")[1]
    assert f"{request.parent.span_id:016x}" == CALLER.split("-")[2]
    assert {span.parent.span_id for span in stages} == {request.context.span_id}
    ends = [request.start_time, *(span.end_time for span in stages), request.end_time]
    assert [span.start_time for span in stages][1:] == ends[1:5]
    slack = 2_000_000  # two clocks, and microseconds of floating point
    assert all(one <= other + slack for one, other in pairwise(ends))
    assert stages[2].attributes["mfalcon.events.encoded"] == 3
    assert (state.name, unknown.name) == ("GET /users/{user_id:path}/state", "GET")
    assert wrong.attributes["http.response.status_code"] == 422
    assert "hush" not in "".join(span.to_json() for span in spans)


async def test_spans_are_sent_to_where_the_environment_says(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(
        "opentelemetry.exporter.otlp.proto.http", reason="the otel extra is not installed"
    )
    received = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers["Content-Length"])
            received.append((self.path, self.rfile.read(size)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "falcon-7")
        async with traced(folder, tracing.from_environment()) as service:
            await service.recommend(user_id="hush", events=make_events(2))
        server.shutdown()
    assert {path for path, _ in received} == {"/v1/traces"}
    sent = b"".join(body for _, body in received)
    assert b"POST /recommend" in sent
    assert b"falcon-7" in sent
    assert b"hush" not in sent


def test_nothing_is_traced_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracing.from_environment() is None
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert tracing.from_environment() is None


def test_a_missing_extra_is_told(monkeypatch: pytest.MonkeyPatch, log: list[JSON]) -> None:
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "service.otel", None)
    assert tracing.from_environment() is None
    (line,) = log
    assert line["event"] == "tracing_unavailable"
    assert "pip install 'mfalcon[otel]'" in line["detail"]


def test_nothing_is_imported_without_need() -> None:
    code = "import sys, service.app, service.tracing as t; t.from_environment(); print(FOUND)"
    found = "'service.otel' in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code.replace("FOUND", found)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == "False", done.stderr
