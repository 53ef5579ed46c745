"""Owns the barest service around the engine: what any FastAPI service pays, and no more.

`python -m service.benchmark.load.bare_app CHECKPOINT PORT THREADS` serves it on loopback. It reads
the JSON of `POST /recommend` as mfalcon does, and the engine runs on a thread of its own, one
request after another. Never stores, batches, ranks or counts: states stay in memory, and the answer
says only what the benchmark reads.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from model.allocator import keep_freed_memory
from model.checkpoint import Checkpoint, load
from model.engine.encoder import EncodeJob
from model.engine.engine import Engine
from model.engine.state import UserState
from model.history import Event, History
from service.benchmark.load.engine_alone import run_engine
from service.schemas import EventIn, EventsRequest, RecommendRequest


class Bare:
    """An engine and the state of every user."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._engine = Engine(checkpoint.network)
        self._items = checkpoint.items.index
        actions = (None, *checkpoint.config.actions)
        self._actions = {action: number for number, action in enumerate(actions)}
        self.states: dict[str, UserState] = {}

    def begin(self, request: EventsRequest) -> None:
        """Encode a user's history."""
        history = History.of(self._events(request.events))
        (encoded,) = self._engine.encode([EncodeJob(self._engine.empty_state(), history)])
        self.states[request.user_id] = encoded.state

    def recommend(self, request: RecommendRequest) -> float:
        """Do the engine's work for a request that names its candidates; its milliseconds."""
        state, window = self.states[request.user_id], self._engine.config.window
        history, _ = state.history.merge(self._events(request.events), window)
        job = EncodeJob(state, history, request.request_time)
        items = torch.tensor([self._items[item_id] for item_id in request.candidates or ()])
        began = time.perf_counter()
        (self.states[request.user_id],) = run_engine(self._engine, [job], [items])
        return 1000 * (time.perf_counter() - began)

    def _events(self, events: Sequence[EventIn]) -> list[Event]:
        return [
            Event(self._items[event.item_id], self._actions[event.action], event.timestamp)
            for event in events
        ]


def create_app(service: Bare) -> FastAPI:
    app, engine = FastAPI(), ThreadPoolExecutor(max_workers=1)

    @app.get("/health/ready")
    async def ready() -> JSONResponse:
        return JSONResponse({"status": "ready"})

    @app.post("/events")
    async def events(request: EventsRequest) -> JSONResponse:
        await asyncio.get_running_loop().run_in_executor(engine, service.begin, request)
        return JSONResponse({"accepted": len(request.events)})

    @app.post("/recommend")
    async def recommend(request: RecommendRequest) -> JSONResponse:
        loop = asyncio.get_running_loop()
        engine_ms = await loop.run_in_executor(engine, service.recommend, request)
        timing = {"encode": 0.0, "score": engine_ms}  # one figure for all of it
        return JSONResponse({"complete": True, "timing_ms": timing})

    return app


def main(folder: Path, port: int, threads: int) -> None:
    keep_freed_memory()
    torch.set_num_threads(threads)
    uvicorn.run(
        create_app(Bare(load(folder))),
        host="127.0.0.1",
        port=port,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
