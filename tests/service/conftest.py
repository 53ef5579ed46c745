"""Owns the fixtures of the service's tests: one tiny checkpoint, an app that serves it, its log,
and a history provider that it may ask."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import pytest
import structlog
from structlog.testing import capture_logs

from model.checkpoint import Checkpoint, load
from model.engine.engine import Engine
from service import logs
from tests.service.builders import JSON, Service, Serving, serving, single_thread, write_checkpoint
from tests.service.history_server import HistoryServer, history_server


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    with single_thread():
        yield


@pytest.fixture(autouse=True)
def plain_logs() -> Iterator[None]:
    """The log as the service writes it; structlog's own default takes seconds for a traceback."""
    logs.configure("json")
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="session")
def checkpoint(folder: Path) -> Checkpoint:
    return load(folder)


@pytest.fixture(scope="session")
def engine(checkpoint: Checkpoint) -> Engine:
    return Engine(checkpoint.network)


@pytest.fixture
async def service(folder: Path) -> AsyncIterator[Service]:
    async with serving(folder) as running:
        yield running


@pytest.fixture
def provider() -> Iterator[HistoryServer]:
    with history_server() as made:
        yield made


@pytest.fixture
def log() -> Iterator[list[JSON]]:
    with capture_logs() as captured:
        yield cast(list[JSON], captured)


@pytest.fixture
def asking(folder: Path, provider: HistoryServer) -> Serving:
    """A service that asks the provider."""
    flags = {"history_url": provider.url, "history_timeout_ms": 20_000, "max_budget_ms": 60_000}
    return lambda **more: serving(folder, **(flags | more))
