"""Owns listening, and what a signal does: readiness goes first, the listener later; keys and
certificates are read again.

Never loads and never answers; the app does both. uvicorn alone closes its listener as soon as it is
signalled, when load balancers still send requests.
"""

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Callable, Iterator
from functools import partial

import structlog
import uvicorn
from fastapi import FastAPI

from service import connections
from service.configuration import load_settings
from service.keys import Keys
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
                **connections.options(settings, app.state.shedding),
                log_level="warning",
                access_log=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=settings.shutdown_timeout_s,
            )
        )
        self._runtime: Runtime = app.state.runtime
        self._clients: Keys = app.state.clients
        self._settings = settings
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
        handlers: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGTERM: partial(self._stop, self._settings.drain_delay_s),
            signal.SIGINT: partial(self._stop, 0.0),
        }
        if self._settings.api_keys_file or self._settings.ssl_certfile:
            # Otherwise it ends the process, as when a terminal closes.
            handlers[signal.SIGHUP] = self._read_again
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    def _read_again(self) -> None:
        """All of it, or nothing: what can not be used leaves the old in force."""
        try:
            settings = load_settings(self._settings.model_dump())
            clients, certificate = settings.client_keys(), connections.certificate(settings)
        except SettingsError as error:
            _log.error("not_read_again", detail=str(error))
            return
        self._clients.become(clients)
        if certificate is not None and self.config.ssl is not None:
            connections.serve_under(self.config.ssl, certificate)
        _log.info("read_again", num_keys=len(clients), has_certificate=certificate is not None)

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
