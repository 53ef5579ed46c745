import pytest

from loadtests.target import KEY_VARIABLE, TargetError, check_target, key_headers


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8000/", "http://localhost:8000", "http://127.8.9.1", "http://[::1]:80"],
)
def test_loopback_hosts_are_accepted(url: str) -> None:
    assert check_target(url, allow_remote=False) == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.1:8000",
        "http://0.0.0.0:8000",
        "https://example.com",
        "http://127.0.0.1.example.com",
        "http://127.0.0.1@example.com",
        "http://localhost.example.com",
    ],
)
def test_other_hosts_need_a_flag(url: str) -> None:
    with pytest.raises(TargetError, match="--allow-remote"):
        check_target(url, allow_remote=False)
    assert check_target(url, allow_remote=True) == url


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8000", "ftp://127.0.0.1", "http://", "http://127.0.0.1:x", "http://[::1"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(TargetError, match="not a URL"):
        check_target(url, allow_remote=True)


def test_the_key_is_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert key_headers() == {}
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    assert key_headers() == {"Authorization": "Bearer secret"}
