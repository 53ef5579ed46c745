"""Owns `mfalcon` as processes: a command that ends, and a service that runs until it is ended."""

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
START_S = 60.0
END_S = 60.0
ANSWER_S = 20.0
MFALCON = [sys.executable, "-m", "service"]


def clean_environment() -> dict[str, str]:
    """Without this machine's settings of the service; wide enough not to break lines.

    One thread, as tensors this small are slower on two, and much slower beside other processes.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MFALCON_")}
    return kept | {"COLUMNS": "1000", "OMP_NUM_THREADS": "1"}


def mfalcon(*arguments: str, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MFALCON, *arguments],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


class ServiceProcess:
    """`mfalcon serve` on a free port of loopback; its log goes to a file."""

    def __init__(
        self,
        flags: Sequence[str],
        log: Path,
        authority: Path | None = None,
        program: Sequence[str] = MFALCON,
    ) -> None:
        """`authority`: of the certificate it is asked under; None: it is asked without TLS."""
        self.port, self._log = _free_port(), log
        command = [*program, "serve", "--port", str(self.port), "--drain-delay-s", "0", *flags]
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=clean_environment(), stdout=file, stderr=file
            )
        url = f"https://localhost:{self.port}" if authority else f"http://127.0.0.1:{self.port}"
        trusted = ssl.create_default_context(cafile=authority) if authority else False
        self._client = httpx.Client(base_url=url, verify=trusted, trust_env=False, timeout=ANSWER_S)

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_ready(self) -> None:
        give_up_s = time.monotonic() + START_S
        while time.monotonic() < give_up_s:
            assert self._process.poll() is None, self.log
            with contextlib.suppress(httpx.TransportError):
                if self._client.get("/health/ready").status_code == httpx.codes.OK:
                    return
            time.sleep(0.05)
        raise AssertionError(f"not ready after {START_S:.0f} s: {self.log}")

    def recommend(self, **body: Any) -> dict[str, Any]:
        """The answer for user "u", unless `body` says otherwise."""
        response = self._client.post("/recommend", json={"user_id": "u"} | body)
        assert response.status_code == httpx.codes.OK, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        return self._client.get(path, headers=headers)

    def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return self._client.post(path, json=body)

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        """The exit code, once it has ended by itself."""
        return self._process.wait(END_S)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._process.kill()
        self._process.wait()

    def remove(self) -> None:
        self.kill()
        self._client.close()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
