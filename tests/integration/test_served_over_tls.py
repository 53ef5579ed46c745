"""`mfalcon serve` as it is deployed: over TLS, with bounds on what a connection may send."""

import contextlib
import subprocess
from pathlib import Path

import httpx
import pytest

from service.protocol import MAX_HEAD_BYTES
from tests.certificates import make_certificates
from tests.integration.process import ANSWER_S, ServiceProcess, mfalcon

PASSWORD = "hush-of-the-key"


def test_the_command_serves_over_tls_within_its_bounds(folder: Path, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    key = tmp_path / "encrypted.key"
    encrypt = ["openssl", "pkey", "-aes256", "-passout", f"pass:{PASSWORD}"]
    plain = certificates.key(certificates.server)
    subprocess.run([*encrypt, "-in", plain, "-out", key], check=True, capture_output=True)
    flags = ["--checkpoint", str(folder), "--store", "memory"]
    flags += ["--ssl-certfile", str(certificates.server), "--ssl-keyfile", str(key)]

    done = mfalcon("serve", *flags, "--ssl-keyfile-password", "hush")
    assert done.returncode == 2, done.stderr
    assert "MFALCON_SSL_CERTFILE" in done.stderr
    assert "Traceback" not in done.stderr

    flags += ["--ssl-keyfile-password", PASSWORD]
    service = ServiceProcess(flags, tmp_path / "service.log", certificates.authority)
    try:
        service.wait_until_ready()
        assert service.recommend()["complete"] is True
        long = {"X-Long": "x" * MAX_HEAD_BYTES}
        # A client may learn no more than that the connection is gone.
        with contextlib.suppress(httpx.TransportError):
            response = service.get("/health/live", headers=long)
            assert response.status_code == httpx.codes.BAD_REQUEST
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(f"http://localhost:{service.port}", trust_env=False, timeout=ANSWER_S)
    finally:
        service.remove()
    assert "hush" not in service.log + done.stderr
