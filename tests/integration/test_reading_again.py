"""SIGHUP: keys and certificates are read again, whole or not at all, and nobody is cut off."""

import shutil
import signal
import ssl
import time
from pathlib import Path

import httpx
import pytest

from tests.certificates import Certificates, make_certificates
from tests.integration.process import ANSWER_S, ServiceProcess

OLD, NEW = "old-key-that-nobody-guesses", "new-key-that-nobody-guesses"


def read_again(service: ServiceProcess, word: str) -> None:
    count, give_up_s = service.log.count(f'"{word}"'), time.monotonic() + ANSWER_S
    service.send_signal(signal.SIGHUP)
    while service.log.count(f'"{word}"') == count:
        assert time.monotonic() < give_up_s, service.log
        time.sleep(0.01)


def status_of(service: ServiceProcess, key: str) -> int:
    return service.get("/info", headers={"X-API-Key": key}).status_code


def test_keys_are_exchanged_while_it_runs(folder: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"shop={OLD}\n")
    flags = ["--checkpoint", str(folder), "--store", "memory", "--api-keys-file", str(keys)]
    service = ServiceProcess(flags, tmp_path / "service.log")
    try:
        service.wait_until_ready()
        assert [status_of(service, key) for key in (OLD, NEW)] == [200, 401]
        keys.write_text(f"shop={OLD}\nshop={NEW}\n")
        assert status_of(service, NEW) == 401
        read_again(service, "read_again")
        assert [status_of(service, key) for key in (OLD, NEW)] == [200, 200]
        for bad in ("", "shop=short", f"shop={NEW}\napp={NEW}"):
            keys.write_text(bad)
            read_again(service, "not_read_again")
            assert [status_of(service, key) for key in (OLD, NEW)] == [200, 200]
        keys.unlink()
        read_again(service, "not_read_again")
        keys.write_text(f"shop={NEW}\n")
        read_again(service, "read_again")
        assert [status_of(service, key) for key in (OLD, NEW)] == [401, 200]
    finally:
        service.remove()
    assert "nobody-guesses" not in service.log


def install(made: Certificates, served: Path) -> None:
    shutil.copy(made.key(made.server), served.with_suffix(".key"))
    shutil.copy(made.server, served)


def is_served(service: ServiceProcess, made: Certificates) -> bool:
    """Over a new connection."""
    trusted = ssl.create_default_context(cafile=made.authority)
    url = f"https://localhost:{service.port}/health/live"
    try:
        return httpx.get(url, verify=trusted, trust_env=False, timeout=ANSWER_S).is_success
    except httpx.ConnectError as error:
        return "CERTIFICATE_VERIFY_FAILED" not in str(error)


@pytest.mark.parametrize("kinds", [("ec", "ec"), ("ec", "rsa"), ("rsa", "ec")])
def test_a_certificate_is_renewed_while_it_runs(
    folder: Path, tmp_path: Path, kinds: tuple[str, str]
) -> None:
    """Of another kind of key, too: the old one is not kept beside."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first, second = (
        make_certificates(tmp_path / name, kind)
        for name, kind in zip(("first", "second"), kinds, strict=True)
    )
    served = tmp_path / "served.pem"
    install(first, served)
    flags = ["--checkpoint", str(folder), "--store", "memory"]
    flags += ["--ssl-certfile", str(served), "--ssl-keyfile", str(served.with_suffix(".key"))]
    service = ServiceProcess(flags, tmp_path / "service.log", first.authority)
    try:
        service.wait_until_ready()
        assert [is_served(service, made) for made in (first, second)] == [True, False]
        shutil.copy(second.server, served)  # and not yet its key
        read_again(service, "not_read_again")
        assert [is_served(service, made) for made in (first, second)] == [True, False]
        install(second, served)
        read_again(service, "read_again")
        assert [is_served(service, made) for made in (first, second)] == [False, True]
        assert service.recommend()["complete"] is True  # over the connection from before
    finally:
        service.remove()
