"""Owns the fixtures of the integration tests: a checkpoint, and `mfalcon serve` as a process."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from model.checkpoint import Checkpoint, load
from tests.integration.process import ServiceProcess
from tests.service.builders import single_thread, write_checkpoint

Serve = Callable[..., ServiceProcess]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    with single_thread():
        yield


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="session")
def checkpoint(folder: Path) -> Checkpoint:
    return load(folder)


@pytest.fixture
def serve(folder: Path, tmp_path: Path) -> Iterator[Serve]:
    """Starts services, ready when returned; whatever still runs at the end is killed."""
    with ExitStack() as stack:

        def start(store: str, *flags: str) -> ServiceProcess:
            log = tmp_path / f"service-{len(list(tmp_path.iterdir()))}.log"
            process = ServiceProcess(["--checkpoint", str(folder), "--store", store, *flags], log)
            stack.callback(process.remove)
            process.wait_until_ready()
            return process

        yield start
