"""Owns an example of a history provider, which keeps to the documented contract unless told not to.

It listens on loopback in a thread of its own.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.service.builders import JSON, Service

Handler = BaseHTTPRequestHandler


def answer(handler: Handler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


@dataclass
class HistoryServer:
    """Tells `histories`; or misbehaves, while `misbehaviour` is set."""

    url: str = ""
    histories: dict[str, list[JSON]] = field(default_factory=dict)
    misbehaviour: Callable[[Handler], None] | None = None
    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    num_inside: int = 0
    most_inside: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reply(self, handler: Handler) -> None:
        question = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self.lock:
            self.asked.append(question["user_id"])
            self.headers.append(dict(handler.headers))
            self.num_inside += 1
            self.most_inside = max(self.most_inside, self.num_inside)
        try:
            if self.misbehaviour is not None:
                self.misbehaviour(handler)
                return
            events = self.histories.get(question["user_id"])
            if events is None:
                answer(handler, 404, b"")
                return
            newest = sorted(events, key=lambda event: int(event["timestamp"]))
            newest = newest[-question["max_events"] :]
            answer(handler, 200, json.dumps({"events": newest}).encode())
        finally:
            with self.lock:
                self.num_inside -= 1


@contextmanager
def history_server() -> Iterator[HistoryServer]:
    made = HistoryServer()

    class Answers(Handler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # noqa: N802
            try:
                made.reply(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            """Nothing: the tests' output is the tests'."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 128

    server = Server(("127.0.0.1", 0), Answers)
    made.url = f"http://127.0.0.1:{server.server_port}/histories"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def outcomes(service: Service) -> list[float]:
    """How many questions of the service were found, none, failed and skipped."""
    names = ("found", "none", "failed", "skipped")
    sample = 'mfalcon_history_requests_total{{outcome="{}"}}'
    return [await service.metric(sample.format(name)) for name in names]
