"""Owns reading headers off a scope, for whatever stands before the routes."""

import re
import secrets
from itertools import count
from typing import Final

from starlette.types import Scope

_SAFE_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")

# Random ones cost a system call each, in which the engine takes the interpreter.
_PROCESS: Final = secrets.token_hex(8)
_NUMBERS: Final = count()


def find(scope: Scope, name: bytes) -> bytes | None:
    """The first header of this name, in small letters; None if there is none."""
    return next((value for key, value in scope["headers"] if key == name), None)


def header(scope: Scope, name: bytes) -> bytes:
    """The same; empty if there is none."""
    return find(scope, name) or b""


def request_id(scope: Scope) -> str:
    """The client's, if it can be told back, or a new one."""
    given = header(scope, b"x-request-id").decode("latin-1")
    return given if _SAFE_ID.fullmatch(given) else f"{_PROCESS}{next(_NUMBERS):016x}"
