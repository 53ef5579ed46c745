"""Processes that add events of the same users at once: none lost, none doubled, as if by one.

`MFALCON_TEST_EVENTS=100000` is the size that a change to the stores has to stand.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model.checkpoint import Checkpoint, load
from model.config import Window
from model.engine.encoder import EncodeJob
from model.engine.engine import Engine
from model.history import History
from tests.integration.event_writer import EVENTS_PER_USER, events_of, replica
from tests.integration.process import ROOT, clean_environment
from tests.service.builders import TOLERANCE, write_checkpoint

pytestmark = pytest.mark.anyio

NUM_EVENTS = int(os.environ.get("MFALCON_TEST_EVENTS", "1000"))
NUM_USERS = max(1, NUM_EVENTS // EVENTS_PER_USER)
WINDOW = Window(capacity=EVENTS_PER_USER, keep=60)


@pytest.fixture(scope="module")
def wide_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A window that holds a user's whole history, whatever its order of arrival."""
    return write_checkpoint(tmp_path_factory.mktemp("wide") / "tiny", window=WINDOW)


@pytest.fixture(scope="module")
def wide(wide_folder: Path) -> Checkpoint:
    return load(wide_folder)


@pytest.mark.parametrize("num_writers", [2, 4])
async def test_writers_of_the_same_users_lose_and_double_nothing(
    wide_folder: Path, wide: Checkpoint, redis_url: str, num_writers: int
) -> None:
    run_writers(num_writers, str(wide_folder), redis_url)
    engine = Engine(wide.network)
    async with replica(wide, redis_url) as (states, _):
        for user in range(NUM_USERS):
            events = events_of(user, wide.config.num_items)
            found = await states.load(str(user))
            held = found.stored.state
            assert (found.status, held.history.events) == ("hit", events), f"user {user}"
            (serial,) = engine.encode([EncodeJob(engine.empty_state(), History.of(events))])
            assert held.history.anchor == serial.state.history.anchor
            for got, right in zip(
                (held.keys, held.values), (serial.state.keys, serial.state.values), strict=True
            ):
                assert got.shape == right.shape
                assert torch.allclose(got, right, atol=TOLERANCE, rtol=0)


def run_writers(count: int, folder: str, url: str) -> None:
    program = [sys.executable, "-m", "tests.integration.event_writer", folder, url, str(NUM_USERS)]
    writers = [
        subprocess.Popen([*program, str(count), str(number)], cwd=ROOT, env=clean_environment())
        for number in range(count)
    ]
    try:
        assert [writer.wait() for writer in writers] == [0] * count, "an event was not stored"
    finally:
        for writer in writers:
            writer.kill()
