"""Owns who is let in: API keys on all routes but the open ones, the admin key on `/admin/`.

Never reads the body: whoever is refused has nothing parsed.
"""

from typing import Final

from fastapi import Depends, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.problems import answer
from service.api.scope import header
from service.errors import Forbidden, ServiceError, Unauthorized
from service.keys import ADMIN, ANONYMOUS, Keys

_OPEN: Final = frozenset(
    ("/", "/metrics", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json")
)
_OPEN_PREFIX: Final = "/health/"
_ADMIN_PREFIX: Final = "/admin/"


def is_open(path: str) -> bool:
    """Whether everybody may ask: probes, metrics, and pages that tell of no user."""
    return path in _OPEN or path.startswith(_OPEN_PREFIX)


def is_admin(path: str) -> bool:
    return path.startswith(_ADMIN_PREFIX)


class Gate:
    """Knows who asks."""

    def __init__(self, clients: Keys, admin: Keys) -> None:
        self._clients, self._admin = clients, admin

    def client(self, scope: Scope) -> str:
        """The name of the client.

        Raises:
            Unauthorized: no key, or not one of those that this path takes.
            Forbidden: an admin route, and no admin key is set.
        """
        path = scope["path"]
        if is_admin(path):
            if not self._admin:
                raise Forbidden(
                    "admin routes are off; set an admin key (MFALCON_ADMIN_KEY) and restart"
                )
            known = self._admin
        elif self._clients and not is_open(path):
            known = self._clients
        else:
            return ANONYMOUS
        key = _presented(scope)
        client = known.client(key) if key else None
        if client is None:
            what = "the admin key" if known is self._admin else "an API key"
            found = "is not known here" if key else "is missing"
            raise Unauthorized(
                f"{what} {found}; send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`"
            )
        return client


class Guard:
    """Puts the name of the client into `scope["state"]["client"]`, or answers 401 or 403."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app, self._gate = app, gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            client = self._gate.client(scope)
        except ServiceError as error:
            response = answer(error, scope["state"]["request_id"], scope["path"])
            response.headers["Connection"] = "close"  # the body is not read
            await response(scope, receive, send)
            return
        scope["state"]["client"] = client
        await self._app(scope, receive, send)


async def _let_admin(request: Request) -> None:
    if request.state.client != ADMIN:
        raise Forbidden("this is an admin route, and not under /admin/")


Admin = Depends(_let_admin)
"""For the routes under `/admin/`, so that one that is moved elsewhere lets nobody in."""


def _presented(scope: Scope) -> bytes:
    scheme, _, key = header(scope, b"authorization").partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else header(scope, b"x-api-key")
