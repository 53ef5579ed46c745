"""Owns a bounded load on a service, with an eye on its readiness as a load balancer has."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx

from tests.integration.process import ANSWER_S
from tests.service.builders import ITEM_IDS, JSON, NOW_S, NUM_ITEMS, make_events

NUM_CLIENTS = 4
BODY: JSON = {
    "candidates": ITEM_IDS,
    "num_results": NUM_ITEMS,
    "exclude_seen": False,
    "include": ["parts"],
    "request_time": NOW_S,
    "budget_ms": 60_000,
}
_PAUSE_S = 0.01
"""Between a client's requests: the machine has other work, and time to answer the probes."""


class Load:
    """Clients that keep their connections, each with users of its own, until told to stop."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._stop = threading.Event()
        self.answers: list[tuple[int, JSON]] = []
        """Status and body, in the order in which they came; 0 and an error where none came."""

    @contextmanager
    def running(self) -> Iterator[None]:
        with ThreadPoolExecutor(NUM_CLIENTS) as pool:
            clients: list[Future[None]] = [pool.submit(self._ask, n) for n in range(NUM_CLIENTS)]
            try:
                self.wait_for(20)
                yield
            finally:
                self._stop.set()
        for client in clients:
            client.result()

    def stop(self) -> None:
        self._stop.set()

    def wait_for(self, num_more: int) -> None:
        count, give_up_s = len(self.answers) + num_more, time.monotonic() + ANSWER_S
        while len(self.answers) < count:
            assert time.monotonic() < give_up_s, self.answers[-1:]
            time.sleep(_PAUSE_S)

    def _ask(self, number: int) -> None:
        limits = httpx.Limits(max_connections=1)
        with httpx.Client(
            base_url=self._url, trust_env=False, timeout=ANSWER_S, limits=limits
        ) as client:
            count = 0
            while not self._stop.is_set():
                user_id = f"{number}-{count // 5}"
                count += 1
                # The whole history each time: right answers are known whichever model had it.
                body: dict[str, Any] = BODY | {
                    "user_id": user_id,
                    "events": make_events(1 + count % 5),
                    "history_mode": "replace",
                }
                try:
                    response = client.post("/recommend", json=body)
                    self.answers.append((response.status_code, response.json() | {"asked": body}))
                except httpx.TransportError as error:
                    self.answers.append((0, {"error": repr(error)}))
                time.sleep(_PAUSE_S)
