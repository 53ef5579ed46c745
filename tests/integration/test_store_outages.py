"""A store that is absent, stops, hangs or holds rubbish costs a hit, never an answer."""

from collections.abc import Callable

import redis

from model.checkpoint import Checkpoint
from tests.integration.conftest import Serve
from tests.integration.process import ServiceProcess
from tests.redis_server import RedisServer, wait_until
from tests.service.builders import JSON, NOW_S, assert_right, make_events

PARTS: JSON = {"include": ["parts"], "request_time": NOW_S}


def assert_served_without_the_store(
    service: ServiceProcess, checkpoint: Checkpoint, num_held: int = 3
) -> None:
    """By the events of the request and a copy, if there is one; told in the answer, and counted."""
    for _ in range(2):
        answer = service.recommend(events=make_events(3), **PARTS)
        assert answer["cache"]["status"] == "error"
        assert answer["degraded"] == ["store_unavailable"]
        assert_right(answer, checkpoint, make_events(num_held))
    told = service.post("/events", {"user_id": "u", "events": make_events(3)})
    assert (told.status_code, told.json()["stored"]) == (200, False)
    assert service.get("/users/u/state").status_code == 503
    assert service.get("/health/ready").status_code == 200
    assert service.get("/health/live").status_code == 200
    assert '_total{op="get"}' in service.get("/metrics").text
    assert 'status="500"' not in service.get("/metrics").text


def assert_hits_again(service: ServiceProcess, checkpoint: Checkpoint, events: list[JSON]) -> None:
    """As soon as the store, left alone during the outage, is asked again."""

    def hits() -> bool:
        """Twice: what the first found before the events were stored may be an older state."""
        asked: tuple[JSON, JSON] = ({"events": events}, {})
        found = [service.recommend(**more, **PARTS)["cache"]["status"] for more in asked]
        return found == ["hit", "hit"]

    wait_until(hits, "a hit")
    answer = service.recommend(**PARTS)
    assert answer["cache"]["status"] == "hit"
    assert answer["degraded"] == []
    assert_right(answer, checkpoint, events)


def test_a_store_that_hangs_and_one_that_dies(
    serve: Serve, spare_redis_server: RedisServer, checkpoint: Checkpoint
) -> None:
    service = serve(spare_redis_server.url, "--store-timeout-ms", "200")
    assert_hits_again(service, checkpoint, make_events(5))
    spare_redis_server.pause()
    assert_served_without_the_store(service, checkpoint, num_held=5)
    spare_redis_server.resume()
    assert_hits_again(service, checkpoint, make_events(6))
    spare_redis_server.kill()
    assert_served_without_the_store(service, checkpoint, num_held=6)
    spare_redis_server.start()
    assert_hits_again(service, checkpoint, make_events(4))


def test_a_service_started_before_its_store(
    serve: Serve, spare_redis_server: RedisServer, checkpoint: Checkpoint
) -> None:
    spare_redis_server.kill()
    service = serve(spare_redis_server.url, "--store-timeout-ms", "200")
    assert_served_without_the_store(service, checkpoint)
    spare_redis_server.start()
    assert_hits_again(service, checkpoint, make_events(4))


def flipped(value: bytes) -> bytes:
    return value[:-1] + bytes([value[-1] ^ 1])


DAMAGE: list[Callable[[bytes], bytes]] = [
    flipped,
    lambda value: value[:-20],
    lambda value: value[:50],
    lambda value: value + b"more",
    lambda _: b"",
    lambda _: b"of another program",
    lambda value: bytes(len(value)),
]


def test_damaged_states_are_misses_with_right_answers(
    serve: Serve, redis_url: str, checkpoint: Checkpoint
) -> None:
    """Read anew each time; a replica that keeps a state does not see the damage to its payload."""
    service = serve(redis_url, "--store-timeout-ms", "10000", "--device-cache-bytes", "0")
    with redis.Redis.from_url(redis_url) as client:

        def hold_state(user: str) -> bytes:
            """The key of a state that was stored and found again."""
            service.recommend(user_id=user, events=make_events(5))
            assert service.recommend(user_id=user)["cache"]["status"] == "hit"
            (key,) = client.keys(f"mf:{{{user}}}:*")
            return bytes(key)

        def assert_miss_then_hit(user: str) -> None:
            for status in ("miss", "hit"):
                answer = service.recommend(user_id=user, events=make_events(4, first=2), **PARTS)
                assert answer["cache"]["status"] == status
                assert_right(answer, checkpoint, make_events(4, first=2))

        for number, damage in enumerate(DAMAGE):
            key = hold_state(f"user-{number}")
            client.set(key, damage(bytes(client.get(key) or b"")))
            assert_miss_then_hit(f"user-{number}")

        alice, bob = hold_state("alice"), hold_state("bob")
        client.copy(alice, bob, replace=True)
        assert_miss_then_hit("bob")
        client.delete(alice)
        client.lpush(alice, "a list")
        assert_miss_then_hit("alice")

        key = hold_state("u")
        user, _, fingerprint = key.rpartition(b":")
        client.rename(key, user + b":" + fingerprint[::-1])
        assert_miss_then_hit("u")
