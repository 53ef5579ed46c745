"""Owns listening, and what a signal does: readiness goes first, the listener later.

Never loads and never answers; the app does both. uvicorn alone closes its listener as soon as it is
signalled, when load balancers still send requests.
"""

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Iterator

import structlog
import uvicorn
from fastapi import FastAPI

from service import connections
from service.runtime import Runtime
from service.settings import Settings, SettingsError

_log = structlog.get_logger("mfalcon.server")
_BACKLOG = 2048
_KEEP_ALIVE_S = 75
"""Longer than load balancers keep an idle connection, 60 s as a rule: they are to close it, or one
of their requests would meet a connection that is being closed."""
_WHY = {
    errno.EADDRINUSE: "another program listens there",
    errno.EADDRNOTAVAIL: "it is no address of this machine",
}


class Server(uvicorn.Server):
    """A listener that is open while the app loads, and for a while after it was told to stop."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                **connections.options(settings),
                log_level="warning",
                access_log=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=settings.shutdown_timeout_s,
            )
        )
        self._runtime: Runtime = app.state.runtime
        self._drain_delay_s = settings.drain_delay_s
        self._hurry = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None

    async def on_tick(self, counter: int) -> bool:
        """Whether to stop. Called by uvicorn, ten times a second."""
        return await super().on_tick(counter) or self._runtime.failure is not None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """In the place of uvicorn's own. Who is stopped in order has not failed: exit code 0."""
        loop = asyncio.get_running_loop()
        # Ctrl-C comes from a person, before whom no load balancer stands.
        delays_s = {signal.SIGTERM: self._drain_delay_s, signal.SIGINT: 0.0}
        for number, delay_s in delays_s.items():
            loop.add_signal_handler(number, self._stop, delay_s)
        try:
            yield
        finally:
            for number in delays_s:
                loop.remove_signal_handler(number)

    def _stop(self, delay_s: float) -> None:
        if self._draining is not None:
            self._hurry.set()
            return
        self._draining = asyncio.create_task(self._drain(delay_s))

    async def _drain(self, delay_s: float) -> None:
        had_clients = self._runtime.is_ready
        self._runtime.drain()
        if had_clients:
            _log.info("draining", listens_s=delay_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), delay_s)
        self.should_exit = True


def listener(host: str, port: int) -> socket.socket:
    """A socket that listens; closed by the server.

    Raises:
        SettingsError: it can not listen there; the message says why.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        made = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        why = _WHY.get(error.errno or 0, error.strerror or str(error))
        raise SettingsError(
            f"host and port (--host, --port, MFALCON_HOST, MFALCON_PORT): can not listen on "
            f"{host}:{port}: {why}"
        ) from error
    _log.info("listening", host=host, port=made.getsockname()[1])
    return made
