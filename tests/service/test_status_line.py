"""The status line sums up what happened since the one before."""

import asyncio
from pathlib import Path

import pytest

from service.metrics import Metrics
from service.status_line import StatusLine
from tests.service.builders import JSON, Service, make_events, serving

pytestmark = pytest.mark.anyio


def told(log: list[JSON]) -> list[JSON]:
    return [line for line in log if line["event"] == "status"]


async def test_it_tells_rates_hits_and_what_is_held(folder: Path, log: list[JSON]) -> None:
    async with serving(folder, status_every_s=0) as service:
        line = StatusLine(service.runtime.metrics.registry, 0)
        await service.recommend(events=make_events(5))
        for _ in range(3):
            await service.recommend()
        await service.recommend(user_id="hush")
        line.tell(2.0)
        (status,) = told(log)
        assert status["per_s"] == 2.5
        assert status["hits"] == {"device": 0.6, "memory": 0.0}
        assert (status["in_flight"], status["waiting"], status["refused"]) == (0, 0, 0)
        assert status["batch"] == 1.0
        assert 0 < status["p50_ms"] <= status["p99_ms"]
        assert status["state_bytes"] == await held_bytes(service)
        assert status["degraded"] == 1
        assert "hush" not in str(log)

        line.tell(2.0)
        assert len(told(log)) == 1, "nothing was asked, so nothing is said"
        await service.recommend()
        line.tell(4.0)
        assert told(log)[1]["per_s"] == 0.25
        assert told(log)[1]["hits"] == {"device": 1.0, "memory": 0.0}


async def held_bytes(service: Service) -> float:
    tiers = ("device", "memory")
    return sum([await service.metric(f'mfalcon_held_bytes{{tier="{tier}"}}') for tier in tiers])


def test_quantiles_are_reckoned_within_their_bucket(log: list[JSON]) -> None:
    metrics = Metrics()
    line = StatusLine(metrics.registry, 0)
    seconds = metrics.request_seconds.labels("/recommend")
    metrics.requests.labels("/recommend", "200").inc(100)
    for value in [0.0004] * 98 + [0.0009, 100.0]:
        seconds.observe(value)
    line.tell(1.0)
    (status,) = told(log)
    assert status["p50_ms"] == pytest.approx(0.5 * 50 / 98, abs=0.01)
    assert status["p99_ms"] == 1.28  # the end of the bucket that begins at 0.8 ms


async def test_it_comes_by_itself_until_the_service_stops(folder: Path, log: list[JSON]) -> None:
    async with serving(folder, status_every_s=0.01) as service:
        await service.recommend()
        for _ in range(2000):
            await asyncio.sleep(0.01)
            if told(log):
                return
    raise AssertionError("no line in twenty seconds")
