"""Owns what lives between start and stop: store, checkpoint, engine thread, recommender.

Never touched by import: `start` builds it, `stop` takes it down in order.
"""

import asyncio
import os
import sys
from importlib.metadata import version
from typing import Any

import structlog
import torch

from cache import Dtype, MemoryStore, RedisStore, StateStore
from model.allocator import keep_freed_memory
from model.checkpoint import Checkpoint, load
from model.engine.engine import Engine
from service.batch import Bounds, Pace
from service.codec import StateCodec
from service.device_tier import DeviceTier
from service.embedded import EmbeddedUnavailable, EmbeddedValkey
from service.errors import NotReady
from service.history_provider import HistoryProvider
from service.lifecycle import Lifecycle, Phase
from service.metrics import Metrics
from service.ranker import Ranker
from service.ranking import ANONYMOUS
from service.recommender import Parts, Recommender
from service.scheduler import EngineThread
from service.settings import Settings, mask_url
from service.states import UserStates
from service.store_watch import StoreWatch
from service.warmup import warm_up

_log = structlog.get_logger("mfalcon.runtime")
_NUM_SAMPLE_ITEMS = 500

_SWITCH_S = 0.0005
"""How long the event loop may keep the interpreter from the engine thread. By default it is ten
times as long, which is as long as a batch: between two operations the engine would stand still."""


class Runtime:
    def __init__(self, settings: Settings, checkpoint: Checkpoint | None = None) -> None:
        """A checkpoint not given is loaded from where the settings say, at the start."""
        self.settings, self.metrics = settings, Metrics()
        self._checkpoint = checkpoint
        self.lifecycle = Lifecycle()
        self._watch = StoreWatch(self.metrics)
        self._embedded: EmbeddedValkey | None = None
        self._thread: EngineThread | None = None
        self._recommender: Recommender | None = None

    async def start(self) -> None:
        """
        Raises:
            CheckpointError: the checkpoint can not be used.
        """
        settings = self.settings
        self.lifecycle.enter(Phase.LOADING)
        keep_freed_memory()
        torch.set_num_threads(settings.threads or num_engine_threads())
        sys.setswitchinterval(_SWITCH_S)
        checkpoint = self._checkpoint
        if checkpoint is None:
            checkpoint = await asyncio.to_thread(load, settings.checkpoint)
        engine = Engine(
            checkpoint.network, pick_device(settings.device), getattr(torch, settings.dtype)
        )
        self.lifecycle.enter(Phase.WARMING)
        self._thread = engine_thread(engine, settings, self.metrics)
        self.metrics.queue_depth.set_function(lambda: self._thread.depth if self._thread else 0)
        self.metrics.queue_seconds.set_function(
            lambda: self._thread.wait_s(ANONYMOUS) if self._thread else 0.0
        )
        await warm_up(engine, self._thread, microbatch=settings.microbatch)
        fingerprint = checkpoint.digests().fingerprint
        dtype = Dtype.named(settings.store_dtype)
        codec = StateCodec(checkpoint.config, fingerprint, engine.pool, dtype)
        device = DeviceTier(settings.device_cache_bytes)
        self.metrics.watch_evictions("device", lambda: device.evictions)
        states = UserStates(
            self._open_store(),
            codec,
            engine.empty_state,
            device,
            self.metrics,
            self._watch.is_full,
            settings.max_user_requests,
        )
        self._recommender = Recommender(
            Parts(
                checkpoint=checkpoint,
                engine=engine,
                thread=self._thread,
                states=states,
                provider=self._open_provider(checkpoint),
                settings=settings,
                metrics=self.metrics,
            )
        )
        self.metrics.info.labels(version("mfalcon"), checkpoint.name, fingerprint.hex()).set(1)
        self.lifecycle.enter(Phase.READY)
        _log.info(
            "ready",
            checkpoint=checkpoint.name,
            fingerprint=fingerprint.hex(),
            cacheability=checkpoint.cacheability.exactness,
            device=str(engine.device),
            kernels=engine.kernels,
            dtype=settings.dtype,
            threads=torch.get_num_threads(),
            tier=states.tier,
        )

    async def stop(self) -> None:
        """Finish what is running, write what is to be written, close the store."""
        self.lifecycle.enter(Phase.DRAINING)
        if self._recommender is not None:
            await self._recommender.drain()
        if self._thread is not None:
            await self._thread.close()
        await self._watch.close()
        if self._recommender is not None:
            await self._recommender.close()
        if self._embedded is not None:
            await asyncio.to_thread(self._embedded.stop)
        self.lifecycle.enter(Phase.STOPPED)

    @property
    def alive(self) -> bool:
        return self._thread is None or self._thread.alive

    def recommender(self) -> Recommender:
        """
        Raises:
            NotReady: not taking requests.
        """
        self.lifecycle.require_ready()
        if self._recommender is None:
            raise NotReady("no checkpoint is loaded", retry_after_s=1)
        return self._recommender

    def info(self) -> dict[str, Any]:
        recommender, settings = self.recommender(), self.settings
        checkpoint = recommender.checkpoint
        limits = {name for name in type(settings).model_fields if name.startswith("max_")}
        every = max(1, len(checkpoint.items) // _NUM_SAMPLE_ITEMS)
        return {
            "version": version("mfalcon"),
            "torch": torch.__version__,
            "model": recommender.model.model_dump() | _describe(checkpoint),
            "actions": list(checkpoint.config.actions),
            "store": {
                "tier": recommender.states.tier,
                "url": mask_url(settings.store),
                "dtype": settings.store_dtype,
            },
            "limits": settings.model_dump(include=limits),
            "sample_item_ids": checkpoint.items.ids[::every],
        }

    def _open_store(self) -> StateStore:
        settings = self.settings
        url = settings.store
        if url == "embedded":
            try:
                self._embedded = EmbeddedValkey(settings.store_memory_bytes)
                url = self._embedded.url
            except EmbeddedUnavailable as error:
                _log.warning("embedded_store_unavailable", detail=str(error), instead="memory")
                url = "memory"
        if url == "memory":
            memory = MemoryStore(settings.store_memory_bytes, settings.state_ttl_s)
            self.metrics.watch_evictions("memory", lambda: memory.evictions)
            return memory
        store = RedisStore.from_url(
            url,
            ttl_s=settings.state_ttl_s,
            timeout_s=settings.store_timeout_ms / 1000,
            on_breaker=self._watch.breaker_changed,
        )
        self._watch.begin(store)
        return store

    def _open_provider(self, checkpoint: Checkpoint) -> HistoryProvider | None:
        settings = self.settings
        if not settings.history_url:
            return None
        return HistoryProvider(
            settings.history_url,
            checkpoint,
            timeout_s=settings.history_timeout_ms / 1000,
            max_bytes=settings.max_body_bytes,
            metrics=self.metrics,
        )


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


def num_engine_threads() -> int:
    """Of the cores this process may run on, all but the one that the event loop needs."""
    has_affinity = hasattr(os, "sched_getaffinity")  # not on macOS
    num_cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, num_cores - 1)


def _describe(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "cacheability": checkpoint.cacheability.exactness,
        "reasons": list(checkpoint.cacheability.reasons),
        "config": checkpoint.config.model_dump(mode="json"),
    }
