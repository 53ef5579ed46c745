"""Getting in: TLS with a certificate to check, and a user with few rights."""

from collections.abc import AsyncIterator, Iterator

import pytest

from cache import MemoryPolicy, RedisStore, StoreUnavailable
from tests.cache.entries import ALICE, BOB, TTL_S, grown, make_entry, put
from tests.cache.proxy import Proxy, proxy
from tests.certificates import Certificates, make_certificates
from tests.redis_server import RedisServer, started

pytestmark = pytest.mark.anyio

STATE_COMMANDS = (
    "+getex +get +getrange +set +watch +unwatch +multi +exec +unlink +ttl +ping "
    "+scan +eval +strlen +setrange +append +expire"
)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def tls(certificates: Certificates, spare_redis_server: RedisServer) -> AsyncIterator[Proxy]:
    """A real server behind TLS; the wheel's own is built without."""
    async with proxy(spare_redis_server.port, certificates.server_context()) as made:
        yield made


@pytest.mark.parametrize(
    ("host", "options"),
    [
        ("localhost", "ssl_ca_certs={ca}"),
        ("127.0.0.1", "ssl_ca_certs={ca}&ssl_check_hostname=false"),
        ("127.0.0.1", "ssl_cert_reqs=none&ssl_check_hostname=false"),
    ],
)
async def test_tls(tls: Proxy, certificates: Certificates, host: str, options: str) -> None:
    url = f"rediss://{host}:{tls.port}/0?{options.format(ca=certificates.authority)}"
    store = RedisStore.from_url(url, ttl_s=TTL_S, timeout_s=10.0)
    large = make_entry(ALICE, bytes(3 << 20))
    assert await put(store, ALICE, large)
    assert await store.get(ALICE) == large
    await store.close()


@pytest.mark.parametrize(
    ("host", "options"), [("localhost", ""), ("127.0.0.1", "?ssl_ca_certs={ca}")]
)
async def test_a_certificate_that_does_not_fit_is_refused(
    tls: Proxy, certificates: Certificates, host: str, options: str
) -> None:
    url = f"rediss://{host}:{tls.port}{options.format(ca=certificates.authority)}"
    store = RedisStore.from_url(url, ttl_s=TTL_S, timeout_s=10.0)
    with pytest.raises(StoreUnavailable, match="ssl_ca_certs"):
        await store.get(ALICE)
    await store.close()


async def test_plain_speech_to_a_tls_port_and_the_other_way_round(
    tls: Proxy, spare_redis_server: RedisServer
) -> None:
    for url in (f"redis://127.0.0.1:{tls.port}", f"rediss://localhost:{spare_redis_server.port}"):
        store = RedisStore.from_url(url, ttl_s=TTL_S, timeout_s=1.0)
        with pytest.raises(StoreUnavailable):
            await store.get(ALICE)
        await store.close()


@pytest.fixture(scope="module")
def guarded() -> Iterator[RedisServer]:
    """A server with a user who may do what states need, and one who may not even that."""
    with started(
        {
            "requirepass": "hush-default",
            "user": f"app on >hush!app ~mf:* {STATE_COMMANDS}\n"
            "user other on >hush!other ~other:* +@all\n"
            f"user curious on >hush!curious ~mf:* {STATE_COMMANDS} +info",
        }
    ) as server:
        yield server


def store_of(server: RedisServer, credentials: str) -> RedisStore:
    url = f"redis://{credentials}127.0.0.1:{server.port}"
    return RedisStore.from_url(url, ttl_s=TTL_S, timeout_s=5.0)


async def test_a_user_with_the_rights_that_states_need(guarded: RedisServer) -> None:
    store = store_of(guarded, "app:hush%21app@")
    assert await put(store, ALICE, make_entry(ALICE))
    assert not await put(store, ALICE, make_entry(ALICE))
    assert await store.get(ALICE) == make_entry(ALICE)
    append, after = grown(make_entry(ALICE), b"more")
    assert await store.head(ALICE) == append.held
    assert await store.append(ALICE, append)
    assert await store.get(ALICE) == after
    assert await store.look(ALICE) is not None
    assert await store.delete(ALICE)
    await store.ping()
    # What it may not ask for is not told, and does no harm.
    assert await store.memory_policies() == {}
    assert await put(store, BOB, make_entry(BOB))
    assert await store.delete(BOB)
    await store.close()


async def test_the_memory_policy_is_told_to_who_may_ask(guarded: RedisServer) -> None:
    store = store_of(guarded, "curious:hush%21curious@")
    (policy,) = (await store.memory_policies()).values()
    assert policy == MemoryPolicy(0, "noeviction")
    assert not policy.evicts
    await store.close()


@pytest.mark.parametrize(
    ("credentials", "advice"),
    [
        ("", "check the user name and password"),
        (":hush-wrong@", "check the user name and password"),
        ("app:hush-wrong@", "check the user name and password"),
        ("other:hush%21other@", "check the rights"),
    ],
)
async def test_a_refused_user_is_told_what_to_check(
    guarded: RedisServer, credentials: str, advice: str
) -> None:
    store = store_of(guarded, credentials)
    with pytest.raises(StoreUnavailable, match=advice) as raised:
        await store.get(ALICE)
    assert "hush" not in str(raised.value)
    await store.close()
