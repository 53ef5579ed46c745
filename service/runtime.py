"""Owns what lives between start and stop: the store, and the checkpoint that is served.

Never touched by import: `begin` lets it be built, `stop` takes it down in order.
"""

import asyncio
import contextlib
import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
import torch

from cache import MemoryStore, RedisStore, StateStore
from model.allocator import keep_freed_memory
from model.checkpoint import Checkpoint, CheckpointError
from service import collector
from service.configuration import mask_url
from service.embedded import EmbeddedUnavailable, EmbeddedValkey
from service.errors import CheckpointRefused, NotReady, ReloadRunning
from service.in_flight import InFlight
from service.interpreter import Interpreter
from service.lifecycle import Lifecycle, Phase
from service.metrics import Metrics
from service.recommender import Recommender
from service.schemas import ModelInfo
from service.served_model import ServedModel, Shared, load_model
from service.settings import Settings
from service.status_line import StatusLine
from service.store_watch import StoreWatch
from service.turns import Turns
from service.warmup import warm_up

if TYPE_CHECKING:
    from service.otel import Tracing

_log = structlog.get_logger("mfalcon.runtime")
_NUM_SAMPLE_ITEMS = 500


class Runtime:
    def __init__(self, settings: Settings, tracing: "Tracing | None" = None) -> None:
        self.settings, self.metrics, self._tracing = settings, Metrics(), tracing
        self.lifecycle, self.in_flight = Lifecycle(), InFlight()
        self._watch, self._interpreter = StoreWatch(self.metrics), Interpreter()
        self._status = StatusLine(self.metrics.registry, settings.status_every_s)
        self._embedded: EmbeddedValkey | None = None
        self._shared: Shared | None = None
        self._model: ServedModel | None = None
        self._starting: asyncio.Task[None] | None = None
        self._retiring: asyncio.Task[None] | None = None
        self._is_reloading = False
        self.metrics.ready.set_function(lambda: self.is_ready)
        self.metrics.alive.set_function(lambda: self.alive)

    def begin(self) -> None:
        """Load and warm up while the event loop goes on, so that probes are answered meanwhile."""
        self._starting = asyncio.create_task(self._start())

    async def started(self) -> None:
        """Wait until requests are taken. Raises whatever `failure` is."""
        assert self._starting is not None
        await asyncio.shield(self._starting)

    @property
    def failure(self) -> BaseException | None:
        """Why it could not start: most likely a CheckpointError."""
        starting = self._starting
        if starting is None or not starting.done() or starting.cancelled():
            return None
        return starting.exception()

    async def _start(self) -> None:
        settings = self.settings
        self.lifecycle.enter(Phase.LOADING)
        keep_freed_memory()
        torch.set_num_threads(settings.threads or num_engine_threads())
        self._interpreter.begin()
        self._shared = Shared(
            settings=settings,
            metrics=self.metrics,
            tracing=self._tracing,
            store=await self._open_store(),
            watch=self._watch,
            turns=Turns(settings.max_user_requests),
        )
        self._model = model = await load_model(settings.checkpoint, self._shared)
        self.lifecycle.enter(Phase.WARMING)
        with model.engine.capturing():
            await warm_up(model.engine, model.thread, settings)
        model.serve()
        collector.calm()
        self.lifecycle.enter(Phase.READY)
        self._status.begin()
        _log.info("ready", **_told(model, settings))

    async def reload(self, folder: Path | None = None) -> tuple[ModelInfo, ModelInfo]:
        """Serve from the checkpoint in `folder`, by default where the one in use came from: the one
        before, and the one now. Until the last request of the one before has ended, there are both.

        Raises:
            NotReady: the service starts or stops.
            ReloadRunning: another reload has not ended.
            CheckpointRefused: it can not be used; the one before goes on.
        """
        self._require_ready()
        old, shared = self._model, self._shared
        assert old is not None
        assert shared is not None
        if self._is_reloading:
            raise ReloadRunning("another reload is running, or the last one's requests are; wait")
        self._is_reloading = True
        try:
            new = await self._warmed_up(folder or old.folder, shared)
        except BaseException as error:
            self._is_reloading = False
            _log.warning("not_reloaded", folder=str(folder or old.folder), detail=str(error))
            raise
        self._model = new
        new.serve()
        self._retiring = asyncio.create_task(self._retire(old))
        self._retiring.add_done_callback(lambda _: collector.sweep())
        _log.info("reloaded", **_told(new, self.settings))
        return old.recommender.model, new.recommender.model

    async def _warmed_up(self, folder: Path, shared: Shared) -> ServedModel:
        """Nothing is captured: the device is in use."""
        try:
            made = await load_model(folder, shared)
            try:
                await warm_up(made.engine, made.thread, self.settings)
                self._require_ready()
            except BaseException:
                await made.close()
                raise
        except (CheckpointError, RuntimeError, MemoryError, OSError) as error:
            raise CheckpointRefused(str(error)) from error
        return made

    def _require_ready(self) -> None:
        if not self.is_ready:
            raise NotReady(f"it is {self.status}: nothing can be loaded beside", retry_after_s=1)

    async def _retire(self, old: ServedModel) -> None:
        """Each request takes the model once, so those that begin from now on have the new one."""
        try:
            # A client that never ends its request must not keep a checkpoint in memory.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.in_flight.ended(), self.settings.shutdown_timeout_s)
            await old.close()
            _log.info("let_go", checkpoint=old.checkpoint.name, fingerprint=old.fingerprint.hex())
        finally:
            self._is_reloading = False

    def drain(self) -> None:
        """Say that the service is about to go. What is not ready by now never will be."""
        self.lifecycle.drain()
        if self._starting is not None:
            self._starting.cancel()

    async def stop(self) -> None:
        """Finish what is running, write what is to be written, close the store."""
        self.drain()
        if self._starting is not None:
            await asyncio.wait([self._starting])
        if self._retiring is not None:
            await asyncio.wait([self._retiring])
        if self._model is not None:
            await self._model.close()
        await self._watch.close()
        await self._status.close()
        if self._shared is not None:
            await self._shared.store.close()
        if self._embedded is not None:
            await asyncio.to_thread(self._embedded.stop)
        if self._tracing is not None:
            await self._tracing.close()
        collector.restore()
        self._interpreter.end()
        self.lifecycle.enter(Phase.STOPPED)

    @property
    def alive(self) -> bool:
        """False once the engine's thread has died, or hangs: only another process helps."""
        return self._model is None or self._model.thread.alive

    @property
    def status(self) -> str:
        """The phase, or that the engine has died or hangs."""
        phase = self.lifecycle.phase
        return "dead" if phase is Phase.READY and not self.alive else phase

    @property
    def is_ready(self) -> bool:
        return self.status == Phase.READY

    def recommender(self) -> Recommender:
        """
        Raises:
            NotReady: not taking requests.
        """
        self.lifecycle.require_open()
        if self._model is None:
            raise NotReady("no checkpoint is loaded", retry_after_s=1)
        return self._model.recommender

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
            "retrieval_candidates": settings.retrieval_candidates,
            "sample_item_ids": checkpoint.items.ids[::every],
        }

    async def _open_store(self) -> StateStore:
        settings = self.settings
        url = settings.store
        if url == "embedded":
            try:
                self._embedded = await asyncio.to_thread(
                    EmbeddedValkey, settings.store_memory_bytes
                )
                url = self._embedded.url
            except EmbeddedUnavailable as error:
                _log.warning("embedded_store_unavailable", detail=str(error), instead="memory")
                url = "memory"
        if url == "memory":
            memory = MemoryStore(settings.store_memory_bytes, settings.state_ttl_s)
            self.metrics.watch_tier("memory", lambda: memory.num_bytes, lambda: memory.evictions)
            return memory
        store = RedisStore.from_url(
            url,
            ttl_s=settings.state_ttl_s,
            timeout_s=settings.store_timeout_ms / 1000,
            on_breaker=self._watch.breaker_changed,
        )
        self._watch.begin(store)
        return store


def num_engine_threads() -> int:
    """Of the cores this process may run on, all but the one that the event loop needs."""
    has_affinity = hasattr(os, "sched_getaffinity")  # not on macOS
    num_cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, num_cores - 1)


def _told(model: ServedModel, settings: Settings) -> dict[str, Any]:
    return {
        "checkpoint": model.checkpoint.name,
        "fingerprint": model.fingerprint.hex(),
        "cacheability": model.checkpoint.cacheability.exactness,
        "device": str(model.engine.device),
        "kernels": model.engine.kernels,
        "dtype": settings.dtype,
        "threads": torch.get_num_threads(),
        "tier": model.recommender.states.tier,
    }


def _describe(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "calibration": checkpoint.digests().calibration,
        "cacheability": checkpoint.cacheability.exactness,
        "reasons": list(checkpoint.cacheability.reasons),
        "config": checkpoint.config.model_dump(mode="json"),
    }
