"""A tiny service with the contract's answers, for load tests to meet over real HTTP."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from threading import Lock, Thread
from typing import Any

import pytest

INFO = {
    "actions": ["negative", "neutral", "positive"],
    "sample_item_ids": [str(item) for item in range(1, 301)],
    "limits": {"max_events": 100, "max_candidates": 120},
}


class FakeService(ThreadingHTTPServer):
    """Remembers each user's last timestamp, and refuses events that come out of order."""

    daemon_threads = False
    block_on_close = True

    def __init__(self, *, broken: bool) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.broken = broken
        self.lock = Lock()
        self.num_requests = 0
        self.num_events: dict[str, int] = {}
        self.last_timestamp: dict[str, int] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, path: str, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.num_requests += 1
        if self.broken:
            return 429, {"status": 429, "code": "overloaded"}
        if path == "/recommend/batch":
            answers = [self._one("/recommend", each) for each in request["requests"]]
            return 200, {"request_id": "r", "results": [body for _, body in answers]}
        return self._one(path, request)

    def _one(self, path: str, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        user_id, events = request["user_id"], request["events"]
        timestamps = [event["timestamp"] for event in events]
        until = [request["request_time"] + 1] if path == "/recommend" else []
        times = [self.last_timestamp.get(user_id, 0), *timestamps, *until]
        in_order = all(earlier < later for earlier, later in pairwise(times))
        within_limits = len(events) <= 100 and len(request.get("candidates", [])) <= 120
        if not in_order or not within_limits:
            return 422, {"status": 422, "code": "invalid_request"}
        reused = self.num_events.get(user_id, 0)
        self.num_events[user_id] = reused + len(events)
        self.last_timestamp[user_id] = max([self.last_timestamp.get(user_id, 0), *timestamps])
        if path == "/events":
            return 200, {"accepted": len(events), "stored": True}
        cache = {
            "status": "hit" if reused else "miss",
            "reused_events": reused,
            "encoded_events": len(events),
        }
        return 200, {"items": [], "complete": True, "cache": cache}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FakeService

    def do_GET(self) -> None:
        self._answer(200, INFO)

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            status, body = self.server.answer(self.path, request)
        self._answer(status, body)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)


@contextmanager
def running(*, broken: bool) -> Iterator[FakeService]:
    with FakeService(broken=broken) as service:
        thread = Thread(target=service.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield service
        finally:
            service.shutdown()
            thread.join()


@pytest.fixture
def service() -> Iterator[FakeService]:
    with running(broken=False) as service:
        yield service


@pytest.fixture
def service_url(service: FakeService) -> str:
    return service.url


@pytest.fixture
def overloaded_url() -> Iterator[str]:
    with running(broken=True) as service:
        yield service.url
