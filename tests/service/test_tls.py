"""TLS by flags: a real handshake, and certificates that are refused before anything is loaded."""

import ssl
import subprocess
from pathlib import Path

import httpx
import pytest

from service.configuration import load_settings, printable
from service.preflight import check
from service.settings import SettingsError
from tests.certificates import Certificates, make_certificates
from tests.service.test_connections import listening

pytestmark = pytest.mark.anyio

PASSWORD = "hush-of-the-key"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def encrypted_key(certificates: Certificates) -> Path:
    path = certificates.folder / "encrypted.key"
    plain = certificates.key(certificates.server)
    command = ["openssl", "pkey", "-aes256", "-passout", f"pass:{PASSWORD}"]
    subprocess.run([*command, "-in", plain, "-out", path], check=True, capture_output=True)
    return path


def flags_of(certificate: Path, key: Path, password: str = "") -> dict[str, str]:
    given = {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}
    return given | ({"ssl_keyfile_password": password} if password else {})


async def is_alive(port: int, authority: Path, scheme: str = "https") -> bool:
    context = ssl.create_default_context(cafile=authority)
    async with httpx.AsyncClient(verify=context, trust_env=False) as client:
        return (await client.get(f"{scheme}://localhost:{port}/health/live")).status_code == 200


async def test_a_client_that_trusts_the_authority_is_served(certificates: Certificates) -> None:
    flags = flags_of(certificates.server, certificates.key(certificates.server))
    async with listening(**flags) as port:
        assert await is_alive(port, certificates.authority)
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await is_alive(port, certificates.stranger)
        with pytest.raises(httpx.RemoteProtocolError):
            await is_alive(port, certificates.authority, scheme="http")


async def test_a_key_may_be_encrypted_or_in_the_file_of_the_certificate(
    certificates: Certificates, encrypted_key: Path, tmp_path: Path
) -> None:
    async with listening(**flags_of(certificates.server, encrypted_key, PASSWORD)) as port:
        assert await is_alive(port, certificates.authority)
    both = tmp_path / "both.pem"
    key = certificates.key(certificates.server)
    both.write_bytes(certificates.server.read_bytes() + key.read_bytes())
    async with listening(ssl_certfile=str(both)) as port:
        assert await is_alive(port, certificates.authority)


def test_a_certificate_that_can_not_be_used_is_refused_by_name(
    folder: Path, certificates: Certificates, encrypted_key: Path
) -> None:
    server, key = certificates.server, certificates.key(certificates.server)
    refused = [
        flags_of(server, certificates.key(certificates.client)),
        flags_of(folder / "none.pem", key),
        flags_of(key, key),
        flags_of(server, encrypted_key),
        flags_of(server, encrypted_key, "hush"),
        {"ssl_certfile": str(server)},
        {"ssl_keyfile": str(key)},
        {"ssl_keyfile_password": "hush"},
    ]
    for flags in refused:
        with pytest.raises(SettingsError, match="MFALCON_SSL_CERTFILE") as raised:
            check(load_settings({"checkpoint": folder, "store": "memory"} | flags))
        assert "hush" not in str(raised.value)
    whole = flags_of(server, encrypted_key, PASSWORD)
    check(load_settings({"checkpoint": folder, "store": "memory"} | whole))


def test_the_password_is_never_shown() -> None:
    settings = load_settings({"ssl_keyfile_password": PASSWORD})
    assert PASSWORD not in f"{settings!r} {settings} {printable(settings)}"
    assert printable(settings)["ssl_keyfile_password"] == "***"
