"""Told to stop under load, a service fails nobody: readiness goes first, the listener later."""

import signal
import time

import httpx
import redis

from tests.integration.conftest import Serve
from tests.integration.load import Load
from tests.integration.process import ANSWER_S, ServiceProcess


def wait_until_not_ready(service: ServiceProcess) -> None:
    give_up_s = time.monotonic() + ANSWER_S
    while service.get("/health/ready").status_code == httpx.codes.OK:
        assert time.monotonic() < give_up_s, "the service says that it is ready"
        time.sleep(0.02)


def test_no_request_fails_when_a_service_is_terminated_under_load(
    serve: Serve, redis_url: str
) -> None:
    service = serve(redis_url, "--drain-delay-s", "3", "--store-timeout-ms", "10000")
    load = Load(service.port)
    with load.running():
        service.send_signal(signal.SIGTERM)
        wait_until_not_ready(service)
        assert service.get("/health/live").status_code == httpx.codes.OK
        load.wait_for(20)  # from whoever has not seen it yet
        load.stop()
    assert service.wait() == 0
    assert {status for status, _ in load.answers} == {200}, load.answers[-1]
    assert "Traceback" not in service.log
    users = {answer["user_id"] for _, answer in load.answers}
    with redis.Redis.from_url(redis_url) as client:
        assert len(client.keys("mf:*")) == len(users)


def test_a_second_signal_does_not_wait(serve: Serve) -> None:
    service = serve("memory", "--drain-delay-s", "600")
    service.send_signal(signal.SIGTERM)
    wait_until_not_ready(service)
    service.send_signal(signal.SIGTERM)
    assert service.wait() == 0


def test_ctrl_c_does_not_wait(serve: Serve) -> None:
    service = serve("memory", "--drain-delay-s", "600")
    service.send_signal(signal.SIGINT)
    assert service.wait() == 0
    assert "Traceback" not in service.log
