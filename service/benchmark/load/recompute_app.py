"""Owns the service that a team writes first: FastAPI, torch and a dictionary of histories.

`python -m service.benchmark.load.recompute_app CHECKPOINT PORT THREADS` serves it on loopback. Each
request recomputes the whole forward, its candidates in one pass, one request after another on all
the threads it was given. It answers as `POST /recommend` does, as far as the benchmark reads it.
"""

import asyncio
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from model.allocator import keep_freed_memory
from model.checkpoint import Checkpoint, load
from model.history import Event, History
from service.benchmark.load.recompute_forward import full_forward


class EventIn(BaseModel):
    item_id: str
    action: str
    timestamp: int  # Unix seconds


class EventsIn(BaseModel):
    user_id: str
    events: list[EventIn]


class RequestIn(EventsIn):
    request_time: int  # Unix seconds
    candidates: list[str]
    num_results: int


class Recompute:
    """A checkpoint and what users did."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._network = checkpoint.network.eval().requires_grad_(False)
        self._events: dict[str, list[Event]] = {}

    def add(self, request: EventsIn) -> None:
        items, actions = self._checkpoint.items.index, self._checkpoint.config.action_index
        events = self._events.setdefault(request.user_id, [])
        events.extend(
            Event(items[event.item_id], actions[event.action], event.timestamp)
            for event in request.events
        )
        del events[: -self._checkpoint.config.window.capacity]

    def rank(self, request: RequestIn) -> list[dict[str, Any]]:
        """The best candidates, best first."""
        config, items = self._checkpoint.config, self._checkpoint.items
        candidates = torch.tensor([items.index[item_id] for item_id in request.candidates])
        history = History.of(self._events[request.user_id])
        scores = full_forward(self._network, history, request.request_time, candidates)
        probabilities = self._network.action_probabilities(scores.actions)
        weights = [config.value.actions.get(action, 0.0) for action in config.actions]
        values = config.value.retrieval * scores.retrieval + probabilities @ torch.tensor(weights)
        best = values.topk(min(request.num_results, len(values))).indices
        rows = zip(best.tolist(), values[best].tolist(), probabilities[best].tolist(), strict=True)
        return [
            {
                "item_id": request.candidates[place],
                "score": score,
                "actions": dict(zip(config.actions, shares, strict=True)),
            }
            for place, score, shares in rows
        ]


def create_app(checkpoint: Checkpoint) -> FastAPI:
    app, service = FastAPI(), Recompute(checkpoint)
    # One request at a time: torch spreads it over the cores by itself.
    engine = ThreadPoolExecutor(max_workers=1)

    @app.get("/health/ready")
    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/events")
    async def add_events(request: EventsIn) -> dict[str, int]:
        service.add(request)
        return {"accepted": len(request.events)}

    @app.post("/recommend")
    async def recommend(request: RequestIn) -> dict[str, Any]:
        service.add(request)
        began = time.perf_counter()
        loop = asyncio.get_running_loop()
        items = await loop.run_in_executor(engine, service.rank, request)
        took_ms = 1000 * (time.perf_counter() - began)
        return {
            "user_id": request.user_id,
            "items": items,
            "complete": True,
            "timing_ms": {"encode": 0.0, "score": took_ms},
        }

    return app


def main(folder: Path, port: int, threads: int) -> None:
    keep_freed_memory()
    torch.set_num_threads(threads or os.cpu_count() or 1)
    uvicorn.run(
        create_app(load(folder)),
        host="127.0.0.1",
        port=port,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
