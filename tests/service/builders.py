"""Owns what the service's tests are made of: a tiny random checkpoint, an app that serves it, and
the right answers, which come from the oracle and a window kept event by event."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import torch
import uvicorn
from fastapi import FastAPI

from model.checkpoint import Checkpoint, save
from model.config import Window
from model.engine.engine import Engine
from model.engine.oracle import Oracle
from model.history import Event, History
from model.items import Items
from model.network.hstu import HSTU
from model.presets import native
from service import connections
from service.app import create_app
from service.batch import Pace
from service.configuration import load_settings
from service.job import Job, Ticket
from service.metrics import Metrics
from service.ranker import Ranker
from service.runtime import Runtime
from service.settings import Settings

JSON = dict[str, Any]

NUM_ITEMS = 60
WINDOW = Window(capacity=12, keep=7)
START_S = 1_500_000_000
NOW_S = START_S + 40_000_000
TOLERANCE = 1e-5
ITEM_IDS = [f"i{index}" for index in range(NUM_ITEMS)]
ACTIONS = ("negative", "neutral", "positive")
PARTS: JSON = {"candidates": ITEM_IDS[::5], "exclude_seen": False, "include": ["parts"]}
"""Of a request whose every score `assert_right` can check."""


@contextmanager
def single_thread() -> Iterator[None]:
    """Tensors this small are slower on two threads, and much slower beside other processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def make_checkpoint(
    seed: int = 0, window: Window = WINDOW, item_ids: Sequence[str] = ITEM_IDS
) -> Checkpoint:
    """Random weights, large enough that every event and every action moves every score."""
    config = native(
        len(item_ids),
        d_model=16,
        num_layers=2,
        num_heads=2,
        qk_dim=4,
        v_dim=6,
        max_distance=8,
        window=window,
    )
    generator = torch.Generator().manual_seed(seed)
    network = HSTU(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.3, generator=generator)
        network.retrieval.prior.normal_(generator=generator)
    rows = [{"item_id": id_, "title": f"Title {index}"} for index, id_ in enumerate(item_ids)]
    return Checkpoint("tiny", network.eval(), Items(rows))


def write_checkpoint(folder: Path, seed: int = 0, window: Window = WINDOW) -> Path:
    save(make_checkpoint(seed, window), folder)
    return folder


def make_events(count: int, *, first: int = 0) -> list[JSON]:
    """Events `first` to `first + count` of one fixed history in order of time, each once."""
    return [
        {
            "item_id": ITEM_IDS[7 * n % NUM_ITEMS],
            "action": (*ACTIONS, None)[n % 4],
            "timestamp": START_S + 1000 * n + 37 * n * n,
        }
        for n in range(first, first + count)
    ]


@dataclass(frozen=True, slots=True)
class Service:
    """An app within its lifespan, and a client that asks it without a network."""

    app: FastAPI
    client: httpx.AsyncClient

    @property
    def runtime(self) -> Runtime:
        found: Runtime = self.app.state.runtime
        return found

    async def recommend(self, **body: Any) -> JSON:
        """The answer to a request at NOW_S for user "u", unless `body` says otherwise."""
        return await self._ask("/recommend", {"user_id": "u", "request_time": NOW_S} | body)

    async def add_events(self, events: Sequence[JSON], **body: Any) -> JSON:
        return await self._ask("/events", {"user_id": "u", "events": events} | body)

    async def state(self, user_id: str = "u") -> JSON:
        response = await self.client.get(f"/users/{user_id}/state")
        assert response.status_code == 200, response.text
        found: JSON = response.json()
        return found

    async def metric(self, sample: str) -> float:
        """The value of one sample of /metrics, by its name with its labels; 0 if it is not told."""
        text = (await self.client.get("/metrics")).text
        values = [line.rpartition(" ") for line in text.splitlines()]
        return sum(float(value) for name, _, value in values if name == sample)

    async def _ask(self, path: str, body: JSON) -> JSON:
        response = await self.client.post(path, json=body)
        assert response.status_code == 200, response.text
        answer: JSON = response.json()
        return answer


@asynccontextmanager
async def serving(folder: Path, **flags: Any) -> AsyncIterator[Service]:
    """A service in this process, stopped at the end."""
    defaults = {"checkpoint": folder, "store": "memory", "device": "cpu", "microbatch": 16}
    app = create_app(load_settings(defaults | flags))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://mfalcon") as client,
    ):
        await app.state.runtime.started()
        yield Service(app, client)


@asynccontextmanager
async def over_sockets(app: FastAPI, settings: Settings) -> AsyncIterator[int]:
    """The port where the app, started or not, listens as it does in production."""
    options = connections.options(settings, app.state.shedding)
    config = uvicorn.Config(app, port=0, lifespan="off", log_level="critical", **options)
    server = uvicorn.Server(config)
    listens = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await listens


Serving = Callable[..., AbstractAsyncContextManager[Service]]
"""`serving` of some folder, with some flags."""


def run_together(engine: Engine, jobs: Sequence[Job[Any]], *, pass_rows: int) -> list[Any]:
    """The jobs as one batch, and what became of each: its outcome, or its exception."""

    async def run() -> list[Any]:
        tickets = [Ticket(job) for job in jobs]
        Ranker(engine, Pace(), Metrics(), pass_rows=pass_rows).run(tickets)
        return await asyncio.gather(*(t.future for t in tickets), return_exceptions=True)

    return asyncio.run(run())


def pace_of(event_s: float, candidate_s: float) -> Pace:
    """As if learned from many passes."""
    pace = Pace()
    for _ in range(200):
        pace.encoded(1000, 1000 * event_s)
        pace.scored(1000, 1000 * candidate_s)
    return pace


def window_of(events: Sequence[JSON], window: Window = WINDOW) -> list[JSON]:
    """What is left of a history by the window rule, applied event by event."""
    held: list[JSON] = []
    for event in sorted(events, key=lambda event: int(event["timestamp"])):
        held.append(event)
        if len(held) > window.capacity:
            held = held[-window.keep :]
    return held


def history_of(checkpoint: Checkpoint, events: Sequence[JSON]) -> History:
    index, actions = checkpoint.items.index, checkpoint.config.action_index
    return History.of(
        Event(
            index[event["item_id"]],
            0 if event["action"] is None else actions[event["action"]],
            event["timestamp"],
        )
        for event in events
    )


def assert_right(
    answer: JSON, checkpoint: Checkpoint, held: Sequence[JSON], now_s: int = NOW_S
) -> None:
    """Every score of the answer is the oracle's for the events held, and the order is by score.

    The request must have asked for the parts.
    """
    oracle = Oracle(checkpoint.network, history_of(checkpoint, held), now_s)
    assert answer["items"]
    for item in answer["items"]:
        right = oracle.score(checkpoint.items.index[item["item_id"]])
        probabilities = checkpoint.network.action_probabilities(right.actions).tolist()
        expected = dict(zip(ACTIONS, probabilities, strict=True))
        retrieval = float(right.retrieval)
        value = retrieval + expected["positive"] - expected["negative"]
        assert abs(item["retrieval_score"] - retrieval) <= TOLERANCE
        assert list(item["actions"]) == list(ACTIONS)
        assert max(abs(item["actions"][name] - expected[name]) for name in ACTIONS) <= TOLERANCE
        assert abs(item["score"] - value) <= 2 * TOLERANCE
    scores = [item["score"] for item in answer["items"]]
    assert scores == sorted(scores, reverse=True)


def scores_of(answer: JSON) -> dict[str, float]:
    return {item["item_id"]: item["score"] for item in answer["items"]}
