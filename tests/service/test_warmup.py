"""Warming up: over what requests are like, within a time."""

from pathlib import Path

import pytest

from model.engine.engine import Engine
from service.batch import Bounds
from service.warmup import Shape, grid
from tests.service.builders import JSON, serving

pytestmark = pytest.mark.anyio


def test_the_grid_goes_up_to_every_bound() -> None:
    shapes = grid(256, Bounds(encode_rows=512, num_rows=4096), microbatch=512, max_queue=128)
    assert {shape.num_events for shape in shapes} == {1, 2, 16, 64, 128, 256}
    assert {shape.num_users for shape in shapes} == {1, 2, 4, 8}
    assert {shape.num_candidates for shape in shapes} == {1, 512, 479}
    assert shapes[0] == Shape(1, 256, 512)


@pytest.mark.parametrize(("capacity", "rows", "max_queue"), [(1, 1, 1), (3, 512, 1), (12, 16, 128)])
def test_the_grid_of_little_is_little(capacity: int, rows: int, max_queue: int) -> None:
    bounds = Bounds(encode_rows=rows, num_rows=rows)
    shapes = grid(capacity, bounds, microbatch=rows, max_queue=max_queue)
    assert {shape.num_users for shape in shapes} == {1}
    assert max(shape.num_events for shape in shapes) == capacity
    assert min(shape.num_events for shape in shapes) == 1


async def test_batches_of_misses_appends_and_hits_are_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[tuple[int, bool, int]] = set()
    encode = Engine.encode

    def watched(engine: Engine, jobs: list) -> list:  # type: ignore[type-arg]
        encoded = encode(engine, jobs)
        for job in jobs:
            num_new = len(job.history) - len(job.state.history)
            seen.add((len(jobs), bool(len(job.state.history)), num_new))
        return encoded

    monkeypatch.setattr(Engine, "encode", watched)
    async with serving(folder, microbatch=200, batch_rows=1000):
        pass
    assert (1, False, 11) in seen
    assert (1, True, 1) in seen
    assert (1, True, 0) in seen
    assert any(count > 1 and not known for count, known, _ in seen)
    assert any(count > 1 and known and new for count, known, new in seen)
    assert any(count > 1 and known and not new for count, known, new in seen)


async def test_it_ends_in_time_and_says_so(folder: Path, log: list[JSON]) -> None:
    async with serving(folder, warmup_timeout_s=0):
        pass
    (told,) = [line for line in log if line["event"] == "warmed_in_part"]
    assert told["done"] < told["shapes"]
    assert [line["event"] for line in log][-1] == "ready"
