"""Owns reading headers off a scope, for middleware. Never decodes."""

from starlette.types import Scope


def header(scope: Scope, name: bytes) -> bytes:
    """The first header of this name, in small letters; empty if there is none."""
    return next((value for key, value in scope["headers"] if key == name), b"")
