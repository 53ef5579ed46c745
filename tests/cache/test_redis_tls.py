"""Sentinels and clusters that speak TLS alone, to users with a password and few rights.

They run on a server of PATH that is built with TLS, and are skipped where there is none.
"""

import asyncio
import os
from collections.abc import Iterator

import anyio
import pytest

from cache import RedisStore, StateKey, StoreUnavailable
from tests.cache.entries import ALICE, BOB, FINGERPRINT, TTL_S, grown, make_entry, put
from tests.cache.test_redis_access import STATE_COMMANDS
from tests.cache.waiting import NO_HANG_S, eventually
from tests.certificates import Certificates, make_certificates
from tests.redis_topologies import SERVICE, Cluster, SentinelPair, client_of, cluster, sentinel_pair

pytestmark = pytest.mark.anyio

USERS = [StateKey(f"user {number}", FINGERPRINT) for number in range(20)]
LONG = os.urandom(3 << 20)
USER = f"app on >hush!app ~mf:* {STATE_COMMANDS} +info +cluster|slots +asking"
SENTINEL_USER = "asker on >hush!asker +sentinel|get-master-addr-by-name"
SENTINEL_CREDENTIALS = "sentinel_username=asker&sentinel_password=hush%21asker"


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Each loop has a TLS of its own."""
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def shared_pair(certificates: Certificates) -> Iterator[SentinelPair]:
    with sentinel_pair(
        "hush-data",
        "hush-sentinel",
        user=USER,
        sentinel_user=SENTINEL_USER,
        certificates=certificates,
    ) as made:
        yield made


@pytest.fixture(scope="module")
def shared_cluster(certificates: Certificates) -> Iterator[Cluster]:
    with cluster(3, user=USER, certificates=certificates) as made:
        yield made


@pytest.fixture(params=["sentinel", "cluster"])
def url(request: pytest.FixtureRequest) -> str:
    """That of servers that hold nothing, without the options of TLS."""
    if request.param == "sentinel":
        pair: SentinelPair = request.getfixturevalue("shared_pair")
        place = f"localhost:{pair.sentinel.port}/{SERVICE}?{SENTINEL_CREDENTIALS}&"
        servers = [pair.primary]
    else:
        nodes: Cluster = request.getfixturevalue("shared_cluster")
        place, servers = f"localhost:{nodes.nodes[0].port}?", nodes.nodes
    for server in servers:
        password = "hush-data" if request.param == "sentinel" else None
        with client_of(server, password=password) as client:
            client.flushall()
    return f"rediss+{request.param}://app:hush%21app@{place}"


def tls(certificates: Certificates) -> str:
    return f"ssl_ca_certs={certificates.authority}&{identity(certificates)}"


def identity(certificates: Certificates) -> str:
    key = certificates.key(certificates.client)
    return f"ssl_certfile={certificates.client}&ssl_keyfile={key}"


async def test_states_are_kept(url: str, certificates: Certificates) -> None:
    store = RedisStore.from_url(url + tls(certificates), ttl_s=TTL_S, timeout_s=10.0)
    for key in USERS:
        assert await put(store, key, make_entry(key, key.name.encode()))
    for key in USERS:
        assert await store.get(key) == make_entry(key, key.name.encode())
    long = make_entry(ALICE, LONG)
    assert await put(store, ALICE, long)
    append, longer = grown(long, b"more")
    assert await store.append(ALICE, append)
    assert await store.get(ALICE) == longer
    assert await store.memory_policies()
    assert await store.delete(ALICE)
    assert await store.get(ALICE) is None
    await store.close()


async def test_a_failover(certificates: Certificates, shared_pair: SentinelPair) -> None:
    place = f"localhost:{shared_pair.sentinel.port}/{SERVICE}?{SENTINEL_CREDENTIALS}&"
    url = f"rediss+sentinel://app:hush%21app@{place}{tls(certificates)}"
    store = RedisStore.from_url(url, ttl_s=TTL_S, timeout_s=10.0)
    key = StateKey("before", FINGERPRINT)
    assert await put(store, key, make_entry(key))
    await asyncio.to_thread(shared_pair.fail_over)
    after = StateKey("after", FINGERPRINT)
    assert await eventually(lambda: put(store, after, make_entry(after)))
    with client_of(shared_pair.primary, password="hush-data") as client:
        assert client.exists(after.name)
        client.flushall()
    await store.close()


async def test_a_slot_that_moves(certificates: Certificates, shared_cluster: Cluster) -> None:
    """ASK and MOVED name the other by the name in its certificate."""
    nodes = shared_cluster
    url = f"rediss+cluster://app:hush%21app@localhost:{nodes.nodes[0].port}?{tls(certificates)}"
    store = RedisStore.from_url(url, ttl_s=TTL_S, timeout_s=10.0)
    assert await put(store, BOB, make_entry(BOB, LONG))
    taker = nodes.other(nodes.owner(BOB.name))
    nodes.begin_migration(BOB.name, taker)
    nodes.move_key(BOB.name, taker)
    assert await store.get(BOB) == make_entry(BOB, LONG)
    nodes.end_migration(BOB.name, taker)
    assert await put(store, BOB, make_entry(BOB, b"2", version=2))
    assert await store.get(BOB) == make_entry(BOB, b"2", version=2)
    assert await store.delete(BOB)
    await store.close()


@pytest.mark.parametrize(
    ("changed", "options", "advice"),
    [
        ((), "ssl_ca_certs={stranger}&{identity}", "ssl_ca_certs"),
        ((), "{identity}", "ssl_ca_certs"),
        (
            ("localhost", "127.0.0.1"),
            "ssl_ca_certs={authority}&{identity}",
            "as its certificate does",
        ),
        ((), "ssl_ca_certs={authority}", "ssl_certfile"),
        (("hush%21app", "hush-wrong"), "ssl_ca_certs={authority}&{identity}", "the user name and"),
        (("app:", "nobody:"), "ssl_ca_certs={authority}&{identity}", "the user name and password"),
        (("rediss", "redis"), "", "rediss if it speaks TLS"),
    ],
)
async def test_who_does_not_fit_is_told_what_to_check(
    url: str, certificates: Certificates, changed: tuple[str, str], options: str, advice: str
) -> None:
    options = options.format(
        identity=identity(certificates),
        authority=certificates.authority,
        stranger=certificates.stranger,
    )
    wrong = (url.replace(*changed) if changed else url) + options
    store = RedisStore.from_url(wrong, ttl_s=TTL_S, timeout_s=5.0)
    for _ in range(2):
        with anyio.fail_after(NO_HANG_S), pytest.raises(StoreUnavailable, match=advice) as raised:
            await store.get(ALICE)
        assert "hush" not in str(raised.value)
    await store.close()


async def test_a_sentinel_that_refuses_is_told_of(
    certificates: Certificates, shared_pair: SentinelPair
) -> None:
    place = f"localhost:{shared_pair.sentinel.port}/{SERVICE}"
    url = f"rediss+sentinel://app:hush%21app@{place}?{tls(certificates)}"
    for credentials, advice in (
        ("", "the user name and password"),
        ("&sentinel_username=asker&sentinel_password=hush-wrong", "the user name and password"),
    ):
        store = RedisStore.from_url(url + credentials, ttl_s=TTL_S, timeout_s=5.0)
        with anyio.fail_after(NO_HANG_S), pytest.raises(StoreUnavailable, match=advice) as raised:
            await store.get(ALICE)
        assert str(shared_pair.sentinel.port) in str(raised.value)
        assert "hush" not in str(raised.value)
        await store.close()
