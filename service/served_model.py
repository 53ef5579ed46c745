"""Owns a checkpoint that is served: its engine, its thread, its states and its recommender.

Never knows which of several is the one in use; the runtime does.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from cache import Dtype, StateStore
from model.checkpoint import Checkpoint, load
from model.engine.engine import Engine
from service.batch import Bounds, Pace
from service.codec import StateCodec
from service.device_tier import DeviceTier
from service.exactness import Allowed
from service.history_provider import HistoryProvider
from service.keys import ANONYMOUS
from service.metrics import Metrics
from service.oracle_process import OracleProcess
from service.ranker import Ranker
from service.recommender import Parts, Recommender
from service.scheduler import EngineThread
from service.settings import Settings
from service.shadow import Shadow
from service.stall import watch
from service.states import UserStates
from service.store_watch import StoreWatch
from service.turns import Turns

if TYPE_CHECKING:
    from service.otel import Tracing


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What the checkpoints that follow each other have in common."""

    settings: Settings
    metrics: Metrics
    tracing: "Tracing | None"
    store: StateStore
    watch: StoreWatch
    turns: Turns


class ServedModel:
    def __init__(self, folder: Path, checkpoint: Checkpoint, engine: Engine, of: Shared) -> None:
        """Starts the engine's thread; `close` ends it."""
        settings, metrics = of.settings, of.metrics
        self.folder, self.checkpoint, self.engine = folder, checkpoint, engine
        self._metrics, self._stall_s = metrics, settings.engine_stall_s
        self._watching: asyncio.Task[None] | None = None
        self.fingerprint = checkpoint.digests().fingerprint
        self._device = DeviceTier(settings.device_cache_bytes)
        self.thread = engine_thread(engine, settings, metrics)
        dtype = Dtype.named(settings.store_dtype)
        states = UserStates(
            of.store,
            StateCodec(checkpoint.config, self.fingerprint, engine.pool, dtype),
            engine.empty_state,
            self._device,
            metrics,
            of.watch.is_full,
            of.turns,
        )
        self.recommender = Recommender(
            Parts(
                checkpoint=checkpoint,
                engine=engine,
                thread=self.thread,
                states=states,
                provider=_provider(checkpoint, settings, metrics),
                shadow=self._shadow(settings),
                tracing=of.tracing,
                settings=settings,
                metrics=metrics,
            )
        )

    def serve(self) -> None:
        """It is warm, and in use from now on: the metrics tell of this one, and of no other any
        more, and that its engine hangs is noticed."""
        self._watching = asyncio.create_task(watch(self.thread, self._stall_s))
        metrics, device, thread = self._metrics, self._device, self.thread
        metrics.watch_tier("device", lambda: device.num_bytes, lambda: device.evictions)
        metrics.watch_costs(self.recommender.states.costs)
        metrics.queue_depth.set_function(lambda: thread.depth)
        metrics.queue_seconds.set_function(lambda: thread.wait_s(ANONYMOUS))
        metrics.serves(self.checkpoint.name, self.fingerprint.hex())

    def _shadow(self, settings: Settings) -> Shadow | None:
        if not settings.shadow_share:
            return None
        thread = self.thread
        return Shadow(
            OracleProcess(self.folder, self.fingerprint),
            self._metrics,
            share=settings.shadow_share,
            allowed=Allowed.of(settings.dtype, settings.store_dtype),
            is_idle=lambda: not thread.depth,
        )

    async def close(self) -> None:
        """Once nobody asks it any more: write what is to be written, then stop the thread."""
        await self.recommender.drain()
        await self.thread.close()
        if self._watching is not None:
            self._watching.cancel()
        await self.recommender.close()


async def load_model(folder: Path, of: Shared) -> ServedModel:
    """Beside the event loop, which goes on.

    Raises:
        CheckpointError: the checkpoint can not be used.
    """
    settings = of.settings

    def read() -> tuple[Checkpoint, Engine]:
        checkpoint = load(folder)
        device, dtype = pick_device(settings.device), getattr(torch, settings.dtype)
        return checkpoint, Engine(checkpoint.network, device, dtype)

    return ServedModel(folder, *await asyncio.to_thread(read), of)


def engine_thread(engine: Engine, settings: Settings, metrics: Metrics) -> EngineThread:
    pace = Pace()
    return EngineThread(
        Ranker(engine, pace, metrics, pass_rows=settings.microbatch).run,
        bounds=Bounds(encode_rows=settings.microbatch, num_rows=settings.batch_rows),
        pace=pace,
        max_queue=settings.max_queue,
    )


def pick_device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def _provider(
    checkpoint: Checkpoint, settings: Settings, metrics: Metrics
) -> HistoryProvider | None:
    if not settings.history_url:
        return None
    return HistoryProvider(
        settings.history_url,
        checkpoint,
        timeout_s=settings.history_timeout_ms / 1000,
        max_bytes=settings.max_body_bytes,
        metrics=metrics,
    )
