"""A store that does not let the service in: told once and plainly, and every request is served."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.preflight import check
from service.settings import Settings, SettingsError
from tests.cache.proxy import proxy
from tests.certificates import Certificates, make_certificates
from tests.redis_server import RedisServer, started
from tests.service.builders import JSON, make_events, serving
from tests.service.test_store_watch import LONG, told, until_told

pytestmark = pytest.mark.anyio


@pytest.fixture
def log() -> Iterator[list[JSON]]:
    with capture_logs() as captured:
        yield captured  # type: ignore[misc]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def guarded() -> Iterator[RedisServer]:
    with started({"requirepass": "hush-right", "maxmemory-policy": "allkeys-lru"}) as server:
        yield server


@pytest.fixture
async def tls_port(guarded: RedisServer, certificates: Certificates) -> AsyncIterator[int]:
    async with proxy(guarded.port, certificates.server_context()) as made:
        yield made.port


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("rediss://:hush-right@localhost:{tls}?ssl_ca_certs={authority}", None),
        ("rediss://:hush-right@localhost:{tls}?ssl_ca_certs={stranger}", "ssl_ca_certs"),
        ("rediss://:hush-right@localhost:{tls}", "ssl_ca_certs"),
        ("rediss://:hush-right@127.0.0.1:{tls}?ssl_ca_certs={authority}", "as its certificate"),
        ("rediss://:hush-wrong@localhost:{tls}?ssl_ca_certs={authority}", "the user name and pass"),
        ("rediss://localhost:{tls}?ssl_ca_certs={authority}", "the user name and password"),
        ("redis://:hush-right@localhost:{tls}", "rediss if it speaks TLS"),
        ("rediss://:hush-right@localhost:{plain}?ssl_ca_certs={authority}", "speaks TLS"),
    ],
)
async def test_the_service_says_what_to_check_and_serves(
    url: str,
    advice: str | None,
    folder: Path,
    guarded: RedisServer,
    tls_port: int,
    certificates: Certificates,
    log: list[JSON],
) -> None:
    url = url.format(
        tls=tls_port,
        plain=guarded.port,
        authority=certificates.authority,
        stranger=certificates.stranger,
    )
    # A server that speaks no TLS says nothing either.
    limits = LONG | ({"store_timeout_ms": 1000} if advice else {})
    async with serving(folder, store=url, **limits) as service:
        for _ in range(3):
            answer = await service.recommend(events=make_events(3))
            assert ("store_unavailable" in answer["degraded"]) == (advice is not None)
        if advice:
            assert advice in (await until_told(log, "store_absent"))["detail"]
    for event in ("store_absent", "store_unavailable"):
        assert len(told(log, event)) == (advice is not None)
    assert "hush" not in str(log)


def test_certificates_that_can_not_be_read_are_a_wrong_setting(folder: Path) -> None:
    url = "rediss://:hush@localhost?ssl_ca_certs=/none.pem"
    with pytest.raises(SettingsError, match=r"MFALCON_STORE.*check ssl_ca_certs") as raised:
        check(Settings(checkpoint=folder, store=url))
    assert "hush" not in str(raised.value)
