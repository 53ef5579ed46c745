"""A service and the Redis it finds, or does not: what it says, once, and what requests notice."""

import asyncio
from pathlib import Path

import anyio
import pytest
import redis

from tests.redis_server import RedisServer
from tests.redis_topologies import cluster, sentinel_pair
from tests.service.builders import JSON, Service, make_events, serving

pytestmark = pytest.mark.anyio

NO_HANG_S = 20.0
LONG = {"store_timeout_ms": 5000, "max_budget_ms": 60_000}


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.store_watch._LOOK_EVERY_S", 0.02)


def told(log: list[JSON], event: str) -> list[JSON]:
    return [line for line in log if line["event"] == event]


async def until_told(log: list[JSON], event: str) -> JSON:
    with anyio.fail_after(NO_HANG_S):
        while True:
            if found := told(log, event):
                return found[0]
            await asyncio.sleep(0.01)


async def recommend_until(service: Service, status: str) -> JSON:
    """The first answer whose state was found so; every one before is an answer as well."""
    with anyio.fail_after(NO_HANG_S):
        while True:
            answer = await service.recommend(events=make_events(3))
            if answer["cache"]["status"] == status:
                return answer
            await asyncio.sleep(0.01)


async def test_started_without_a_store(
    folder: Path, spare_redis_server: RedisServer, log: list[JSON]
) -> None:
    spare_redis_server.kill()
    async with serving(folder, store=spare_redis_server.url, **LONG) as service:
        absent = await until_told(log, "store_absent")
        assert "check that it runs" in absent["detail"]
        for _ in range(10):
            answer = await service.recommend(events=make_events(3))
            assert answer["cache"]["status"] == "error"
            assert answer["degraded"] == ["store_unavailable"]
        assert (await service.client.get("/health/ready")).status_code == 200
        spare_redis_server.start()
        await until_told(log, "store_found")
        await recommend_until(service, "hit")
    for event in ("store_absent", "store_found", "ready"):
        assert len(told(log, event)) == 1


async def test_a_store_that_is_there_is_not_talked_about(
    folder: Path, spare_redis_server: RedisServer, log: list[JSON]
) -> None:
    with redis.Redis.from_url(spare_redis_server.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    async with serving(folder, store=spare_redis_server.url, **LONG) as service:
        await recommend_until(service, "hit")
    assert not [line["event"] for line in log if line["event"].startswith("store_")]


async def test_a_dead_store_is_left_alone_and_asked_again(
    folder: Path, spare_redis_server: RedisServer, log: list[JSON]
) -> None:
    async with serving(folder, store=spare_redis_server.url, **LONG) as service:
        await recommend_until(service, "hit")
        assert await service.metric("mfalcon_store_breaker_open") == 0
        spare_redis_server.kill()
        for _ in range(10):
            assert (await service.recommend())["cache"]["status"] == "error"
        assert await service.metric("mfalcon_store_breaker_open") == 1
        spare_redis_server.start()
        await recommend_until(service, "hit")
        assert await service.metric("mfalcon_store_breaker_open") == 0
        assert await service.metric('mfalcon_store_breaker_changes_total{state="closed"}') == 1
        assert await service.metric('mfalcon_store_breaker_changes_total{state="open"}') >= 1
    for event in ("store_left_alone", "store_asked_again", "store_unavailable"):
        assert len(told(log, event)) == 1


async def test_a_store_that_never_evicts_is_told_once_and_costs_no_answer(
    folder: Path, spare_redis_server: RedisServer, log: list[JSON]
) -> None:
    async with serving(folder, store=spare_redis_server.url, **LONG) as service:
        warning = await until_told(log, "store_never_evicts")
        assert "maxmemory-policy allkeys-lru" in warning["detail"]
        assert warning["servers"] == [spare_redis_server.url.split("/")[2]]
        assert warning["maxmemory"] == [0]
        with redis.Redis.from_url(spare_redis_server.url) as client:
            client.config_set("maxmemory", "1")
        for number in range(10):
            answer = await service.recommend(user_id=f"u{number}", events=make_events(3))
            assert answer["cache"]["status"] == "miss"
            assert answer["complete"] is True
        told_not_stored = await service.add_events(make_events(3))
        assert told_not_stored["stored"] is False
        await service.runtime.recommender().drain()
        assert await service.metric('mfalcon_store_errors_total{op="put"}') >= 11
        assert await service.metric("mfalcon_store_breaker_open") == 0
    assert len(told(log, "store_never_evicts")) == 1
    assert len(told(log, "store_unavailable")) == 1


async def test_a_store_that_stops_evicting_is_told_when_it_is_full(
    folder: Path, spare_redis_server: RedisServer, log: list[JSON]
) -> None:
    with redis.Redis.from_url(spare_redis_server.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        async with serving(folder, store=spare_redis_server.url, **LONG) as service:
            await recommend_until(service, "hit")
            assert not told(log, "store_never_evicts")
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "1")
            for number in range(5):
                answer = await service.add_events(make_events(3), user_id=f"u{number}")
                assert answer["stored"] is False
            assert (await until_told(log, "store_never_evicts"))["maxmemory"] == [1]
    assert len(told(log, "store_never_evicts")) == 1


async def test_a_store_that_hangs_gets_no_more_than_the_requests_time(
    folder: Path, spare_redis_server: RedisServer
) -> None:
    """The store's own timeout is so long that the test would hang."""
    flags = {"store_timeout_ms": 1e6, "max_budget_ms": 60_000}
    async with serving(folder, store=spare_redis_server.url, **flags) as service:
        await recommend_until(service, "hit")
        spare_redis_server.pause()
        with anyio.fail_after(NO_HANG_S):
            answer = await service.recommend(budget_ms=200)
        assert answer["cache"]["status"] == "error"
        assert "store_unavailable" in answer["degraded"]
        spare_redis_server.resume()
        await recommend_until(service, "hit")


async def test_a_store_that_refuses_the_password_is_told_without_it(
    folder: Path, spare_redis_server: RedisServer, log: list[JSON]
) -> None:
    url = spare_redis_server.url.replace("://", "://somebody:hush@")
    async with serving(folder, store=url, **LONG) as service:
        absent = await until_told(log, "store_absent")
        assert "check the user name and password" in absent["detail"]
        assert (await service.recommend())["cache"]["status"] == "error"
    assert "hush" not in str(log)


async def test_a_failover_reaches_no_client(folder: Path) -> None:
    with sentinel_pair() as pair:
        async with serving(folder, store=pair.url, **LONG) as service:
            await recommend_until(service, "hit")
            pair.primary.kill()
            assert (await service.recommend())["cache"]["status"] == "error"
            await recommend_until(service, "hit")


async def test_a_cluster_s_node_that_dies_reaches_no_client(folder: Path) -> None:
    with cluster(2) as nodes:
        async with serving(folder, store=nodes.url, **LONG) as service:
            for number in range(8):
                await service.add_events(make_events(3), user_id=f"u{number}")
            nodes.nodes[1].kill()
            found = {
                (await service.recommend(user_id=f"u{number}"))["cache"]["status"]
                for number in range(8)
            }
            assert found == {"hit", "error"}
