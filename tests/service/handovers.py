"""Owns what a change of model is tested with: a new checkpoint, and users of the old one."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from cache import Dtype, RedisStore
from model.checkpoint import Checkpoint
from model.config import Window
from model.engine.engine import Engine
from service.handover import Handover
from tests.service.builders import ITEM_IDS, JSON, WINDOW, Service, make_checkpoint, serving

NEW_IDS = ["brand new", *ITEM_IDS[:4:-1]]
"""In another order, with one that is new, and without the first five."""


def make_new(window: Window = WINDOW) -> Checkpoint:
    return make_checkpoint(seed=7, window=window, item_ids=NEW_IDS)


def handover(
    old: Checkpoint, new: Checkpoint, store: RedisStore, dtype: Dtype = Dtype.FLOAT32
) -> Handover:
    return Handover(old, new, Engine(new.network), store, dtype)


async def add_events(folder: Path, url: str, events: dict[str, list[JSON]]) -> None:
    """By a service of the checkpoint."""
    async with serving_on(url, folder) as service:
        for user_id, theirs in events.items():
            assert (await service.add_events(theirs, user_id=user_id))["stored"]


def serving_on(url: str, folder: Path) -> AbstractAsyncContextManager[Service]:
    return serving(folder, store=url, store_timeout_ms=10_000)
