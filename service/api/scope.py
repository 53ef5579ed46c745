"""Owns reading headers off a scope, for middleware. Never decodes."""

from starlette.types import Scope


def find(scope: Scope, name: bytes) -> bytes | None:
    """The first header of this name, in small letters; None if there is none."""
    return next((value for key, value in scope["headers"] if key == name), None)


def header(scope: Scope, name: bytes) -> bytes:
    """The same; empty if there is none."""
    return find(scope, name) or b""
