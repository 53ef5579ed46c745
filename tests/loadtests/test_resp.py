from collections.abc import Iterator
from random import Random

import pytest

from loadtests.faults.redis_faults import CORRUPTED_SHARE, corrupt
from loadtests.resp import Resp, ServerError
from tests.redis_server import RedisServer, started


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with started() as made:
        yield made


def test_all_kinds_of_replies(server: RedisServer) -> None:
    with Resp(server.port) as client:
        client.ask("FLUSHALL")
        assert client.ask("PING") == b"PONG"
        assert client.ask("SET", b"k\r\n", b"\x00\r\n\xff") == b"OK"
        assert client.ask("GET", b"k\r\n") == b"\x00\r\n\xff"
        assert client.ask("GET", "none") is None
        assert client.ask("STRLEN", b"k\r\n") == 4
        assert client.ask("MGET", b"k\r\n", "none") == [b"\x00\r\n\xff", None]
        with pytest.raises(ServerError, match="unknown command"):
            client.ask("NONSENSE")


def test_a_part_of_the_states_is_damaged_and_keeps_its_time(server: RedisServer) -> None:
    whole = bytes(range(256))
    with Resp(server.port) as client:
        client.ask("FLUSHALL")
        for number in range(1000):
            client.ask("SET", f"mf:{{{number}}}:f", whole, "EX", 1000)
        client.ask("SET", "other", whole)
        keys = client.keys("mf:*")
        assert len(keys) == 1000
        num_damaged = corrupt(server.port, Random(1))
        assert num_damaged == pytest.approx(1000 * CORRUPTED_SHARE, rel=0.3)
        assert sum(client.ask("GET", key) != whole for key in keys) == num_damaged
        assert client.ask("GET", "other") == whole
        assert all(client.ask("TTL", key) for key in keys)


def test_a_server_that_is_gone_is_an_os_error() -> None:
    with started() as server, Resp(server.port) as client:
        server.kill()
        with pytest.raises(OSError, match=r"closed|reset|Broken"):
            client.ask("PING")
