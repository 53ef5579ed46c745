"""Owns what the OpenAPI document says of all routes alike: which keys they take, and the 401.

Never lists routes: which of them are guarded is the guard's to say.
"""

from typing import Any, Final

from fastapi import FastAPI

from service.api.guard import is_admin, is_open
from service.api.problems import responses

_SCHEMES: Final[dict[str, Any]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "`Authorization: Bearer KEY`: an API key, on admin routes the admin key",
    },
    "header": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "the same key in a header of its own",
    },
}


def install(app: FastAPI, *, needs_keys: bool) -> None:
    """`needs_keys`: whether requests without an API key are refused."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _guarded(plain(), needs_keys=needs_keys)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _guarded(document: dict[str, Any], *, needs_keys: bool) -> dict[str, Any]:
    either: list[dict[str, list[str]]] = [{name: []} for name in _SCHEMES]
    document.setdefault("components", {})["securitySchemes"] = _SCHEMES
    refusals = {str(status): told for status, told in responses(401, 403).items()}
    for path, operations in document["paths"].items():
        if is_open(path):
            continue
        statuses = ("401", "403") if is_admin(path) else ("401",)
        for operation in operations.values():
            operation["security"] = either if needs_keys or is_admin(path) else [{}, *either]
            operation["responses"] |= {status: refusals[status] for status in statuses}
    return document
