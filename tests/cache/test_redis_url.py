"""The forms of a store's URL."""

import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import SSLConnection

from cache import RedisStore
from cache.redis.url import Address, Target, Topology, parse
from tests.certificates import Certificates, make_certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def parsed(url: str) -> Target:
    return parse(url, {"protocol": 2}, max_connections=16, wait_s=0.5)


@pytest.mark.parametrize(
    ("url", "topology", "seeds", "options"),
    [
        ("redis://", Topology.ONE, ["localhost:6379"], {}),
        ("redis://host/1", Topology.ONE, ["host:6379"], {"db": 1}),
        ("redis://host/1?db=2", Topology.ONE, ["host:6379"], {"db": 2}),
        ("redis://[::1]:7000", Topology.ONE, ["[::1]:7000"], {}),
        ("redis://u:p%40%2Fq@h", Topology.ONE, ["h:6379"], {"username": "u", "password": "p@/q"}),
        ("redis://:p@h", Topology.ONE, ["h:6379"], {"password": "p"}),
        ("unix:///run/redis.sock?db=1", Topology.ONE, ["/run/redis.sock"], {"db": 1}),
        ("unix://:p@/run/redis.sock", Topology.ONE, ["/run/redis.sock"], {"password": "p"}),
        ("redis+sentinel://a,[::1]/main", Topology.SENTINEL, ["a:26379", "[::1]:26379"], {}),
        ("redis+sentinel://:p@a:1/main/3", Topology.SENTINEL, ["a:1"], {"password": "p", "db": 3}),
        ("redis+cluster://a,b:1", Topology.CLUSTER, ["a:6379", "b:1"], {}),
        ("redis+cluster://u:p@a/0", Topology.CLUSTER, ["a:6379"], {"username": "u"}),
    ],
)  # fmt: skip
def test_accepted(url: str, topology: Topology, seeds: list[str], options: dict[str, Any]) -> None:
    target = parsed(url)
    assert target.topology is topology
    assert [str(seed) for seed in target.seeds] == seeds
    assert target.access.options.items() >= (options | {"protocol": 2}).items()
    assert target.access.connection_class is not SSLConnection
    RedisStore.from_url(url, ttl_s=1)


@pytest.mark.parametrize("url", ["rediss://h", "rediss+sentinel://h/main", "rediss+cluster://h"])
def test_tls(url: str, certificates: Certificates) -> None:
    ca = certificates.authority
    target = parsed(f"{url}?ssl_cert_reqs=none&ssl_check_hostname=no&ssl_ca_certs={ca}")
    for access in filter(None, (target.access, target.sentinel)):
        assert access.connection_class is SSLConnection
        assert access.options["ssl_ca_certs"] == str(ca)
        assert access.options["ssl_check_hostname"] is False
        # Loading takes tens of milliseconds, in which the event loop does nothing else.
        made = [access.connection(Address("h", port)).ssl_context.get() for port in (1, 2)]
        assert made[0] is made[1] is target.access.certificates.context


@pytest.mark.parametrize(
    "options",
    [
        "ssl_ca_certs=/none.pem",
        "ssl_ca_certs={openssl}",
        "ssl_certfile={client}",
        "ssl_certfile={client}&ssl_keyfile={stranger_key}",
        "ssl_certfile={client}&ssl_keyfile={locked}",
        "ssl_certfile={client}&ssl_keyfile={locked}&ssl_password=hush",
    ],
)
def test_certificates_that_can_not_be_used_are_told_of(
    options: str, certificates: Certificates, tmp_path: Path
) -> None:
    key = certificates.key(certificates.client)
    locked = tmp_path / "locked.key"
    command = [
        "openssl",
        "pkey",
        "-in",
        str(key),
        "-aes128",
        "-passout",
        "pass:other",
        "-out",
        str(locked),
    ]
    subprocess.run(command, check=True, capture_output=True)
    options = options.format(
        openssl=certificates.folder / "openssl.cnf",
        client=certificates.client,
        stranger_key=certificates.key(certificates.stranger),
        locked=locked,
    )
    with pytest.raises(ValueError, match="check ssl_ca_certs, ssl_certfile, ssl_key") as raised:
        parsed(f"rediss://:hush@h?{options}")
    assert "hush" not in str(raised.value)
    parsed(f"rediss://h?ssl_certfile={certificates.client}&ssl_keyfile={key}")
    parsed(f"rediss://h?ssl_certfile={certificates.client}&ssl_keyfile={locked}&ssl_password=other")


def test_sentinels_have_credentials_of_their_own() -> None:
    target = parsed("redis+sentinel://u:p@h/main/2?sentinel_username=v&sentinel_password=q%2B")
    assert target.service == "main"
    assert target.sentinel is not None
    for access, expected in ((target.access, ("u", "p", 2)), (target.sentinel, ("v", "q+", 0))):
        assert tuple(access.options[name] for name in ("username", "password", "db")) == expected
    alone = parsed("redis+sentinel://u:p@h/main").sentinel
    assert alone is not None
    assert alone.options["password"] is None


def test_options_in_the_url_win() -> None:
    access = parsed("redis://h?max_connections=3&timeout=9&socket_timeout=7").access
    assert (access.max_connections, access.wait_s, access.step_s) == (3, 9.0, 7.0)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://hush@localhost",
        "redis://:hush@localhost:port",
        "redis://:hu/sh@localhost",
        "redis://localhost/cache",
        "redis://localhost?unknown=1",
        "redis://localhost?db=hush",
        "redis://localhost?host=hush",
        "redis://localhost?sentinel_password=hush",
        "redis://a,b",
        "redis://[::1",
        "unix://",
        "unix://tmp/redis.sock",
        "unix+cluster://tmp",
        "redis+://hush@host",
        "redis+other://hush@host",
        "redis+sentinel://hush@host",
        "redis+sentinel://hush@host/",
        "redis+sentinel:///main",
        "redis+sentinel://hush@host/main/db",
        "redis+sentinel://:hush@a,,b/main",
        "redis+sentinel://:hush@a:port/main",
        "redis+cluster://",
        "redis+cluster://:hush@a/1",
        "redis+cluster://:hush@a?db=1",
    ],
)
def test_malformed(url: str) -> None:
    with pytest.raises(ValueError, match=r"redis://.*sentinel://.*cluster://.*unix://") as raised:
        RedisStore.from_url(url, ttl_s=1)
    assert "hu" not in str(raised.value)
    assert raised.value.__cause__ is None


@given(
    url=st.text() | st.builds("redis+sentinel://{}@{}/{}".format, st.text(), st.text(), st.text())
)
def test_any_text_is_accepted_or_refused_as_malformed(url: str) -> None:
    with suppress(ValueError):
        RedisStore.from_url(url, ttl_s=1)


def test_addresses_read_as_in_a_url() -> None:
    addresses = Address("h", 1), Address("::1", 2), Address("/s", 0)
    assert [str(address) for address in addresses] == ["h:1", "[::1]:2", "/s"]
