"""Owns how connections are served: how many, under which certificate, and for how long and large a
head.

Never sees a request: what comes after the head is for the middleware to bound.
"""

import ssl
from asyncio import TimerHandle, Transport
from typing import Any, Final

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.logs import SeldomWarning
from service.settings import Settings, SettingsError

_log = structlog.get_logger("mfalcon.connections")
MAX_HEAD_BYTES: Final = 64 << 10
"""Of a request line and its headers together: what h11 takes, and httptools does not bound."""


def options(settings: Settings) -> dict[str, Any]:
    """For `uvicorn.Config`."""

    class Bounded(_BoundedHttp):
        timeout_s = settings.receive_timeout_ms / 1000
        max_connections = settings.max_connections
        warn = SeldomWarning(_log, "connection_refused")

    names = ("ssl_certfile", "ssl_keyfile", "ssl_keyfile_password")
    return {"http": Bounded} | {name: getattr(settings, name) or None for name in names}


def certificate(settings: Settings) -> ssl.SSLContext | None:
    """To serve with, as the files have it now; None without TLS.

    Raises:
        SettingsError: there is a key and no certificate, or they can not be used together.
    """
    name, more = settings.ssl_certfile, settings.ssl_keyfile or settings.ssl_keyfile_password
    if not name and not more:
        return None
    wrong = "ssl_certfile (--ssl-certfile, MFALCON_SSL_CERTFILE):"
    if not name:
        raise SettingsError(f"{wrong} is missing; a key alone serves nothing")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(
            # Always a password, or OpenSSL asks at the terminal.
            name,
            settings.ssl_keyfile or None,
            lambda: settings.ssl_keyfile_password,
        )
    except (OSError, ValueError) as error:  # of which ssl.SSLError is one
        raise SettingsError(
            f"{wrong} {name}, with ssl_keyfile and ssl_keyfile_password, is not a certificate with "
            f"its private key: {error}"
        ) from None
    return context


def serve_under(listens: ssl.SSLContext, fresh: ssl.SSLContext) -> None:
    """Under another certificate from now on, where connections are accepted with `listens`.

    Not loaded into that one: it would keep the old one beside, if their keys are of two kinds.
    """

    def swap(connection: ssl.SSLObject | ssl.SSLSocket, _: object, __: object) -> None:
        connection.context = fresh

    listens.sni_callback = swap  # asked in every handshake, with a name or without


class _BoundedHttp(HttpToolsProtocol):
    """Ends a connection that is one too many, or whose request's head is too long, or does not come
    to its end in time."""

    timeout_s: float
    max_connections: int
    warn: SeldomWarning
    _is_in_head = True
    _head_bytes = 0
    _timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self.warn(detail="raise max_connections, or see who holds so many")
            transport.close()
            return
        self._timer = self.loop.call_later(self.timeout_s, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._stop_timer()
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEAD_BYTES:  # it came in one piece
            raise ValueError("too long a head")  # which the parser makes a 400 of
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        was_in_head = self._is_in_head
        super().data_received(data)
        if not self._is_in_head or self.transport.is_closing():
            return
        if was_in_head:
            self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self.send_400_response(f"The request's head exceeds {MAX_HEAD_BYTES} bytes.")
        elif self._timer is None:
            self._timer = self.loop.call_later(self.timeout_s, self._give_up)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self.transport.close()
