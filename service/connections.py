"""Owns how connections are served: how many, how long they may take, and under which certificate.

Never sees a request.
"""

import ssl
from typing import Any

import structlog

from service.api.shedding import Shedding
from service.logs import SeldomWarning
from service.protocol import Bounded
from service.settings import Settings, SettingsError

_log = structlog.get_logger("mfalcon.connections")


def options(settings: Settings, shed: Shedding) -> dict[str, Any]:
    """For `uvicorn.Config`."""

    class Configured(Bounded):
        timeout_s = settings.receive_timeout_ms / 1000
        max_connections = settings.max_connections
        shedding = shed
        warn = SeldomWarning(_log, "connection_refused")

    names = ("ssl_certfile", "ssl_keyfile", "ssl_keyfile_password")
    return {"http": Configured} | {name: getattr(settings, name) or None for name in names}


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
