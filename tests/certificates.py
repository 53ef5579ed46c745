"""Owns certificates for tests, made anew: an authority, what it signed, and a stranger to it."""

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_SECTIONS = """
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[signed]
basicConstraints = critical, CA:FALSE
subjectAltName = DNS:localhost
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files of a folder; the key of `x.pem` is `x.key`. None names a host but `localhost`."""

    folder: Path

    @property
    def authority(self) -> Path:
        return self.folder / "authority.pem"

    @property
    def server(self) -> Path:
        return self.folder / "server.pem"

    @property
    def client(self) -> Path:
        return self.folder / "client.pem"

    @property
    def stranger(self) -> Path:
        """An authority that signed none of them."""
        return self.folder / "stranger.pem"

    def server_context(self) -> ssl.SSLContext:
        """For a server that asks nobody for a certificate."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.server, self.key(self.server))
        return context

    @staticmethod
    def key(certificate: Path) -> Path:
        return certificate.with_suffix(".key")


_KINDS = {
    "ec": ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
    "rsa": ["rsa:2048"],
}


def make_certificates(folder: Path, kind: str = "ec") -> Certificates:
    """With keys of one kind. Skips the test where there is no openssl."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl on PATH to make certificates with")
    made = Certificates(folder)
    configuration = folder / "openssl.cnf"
    configuration.write_text(_SECTIONS)

    def make(path: Path, section: str, *more: str | Path) -> None:
        command: list[str | Path] = [openssl, "req", "-x509", "-config", configuration]
        command += ["-extensions", section]
        command += ["-newkey", *_KINDS[kind], "-nodes"]
        command += ["-days", "2", "-subj", f"/CN={path.stem}", "-keyout", made.key(path)]
        subprocess.run([*command, "-out", path, *more], check=True, capture_output=True)

    signed = ("-CA", made.authority, "-CAkey", made.key(made.authority))
    make(made.authority, "authority")
    make(made.stranger, "authority")
    make(made.server, "signed", *signed)
    make(made.client, "signed", *signed)
    return made
