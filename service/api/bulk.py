"""Owns many requests in one: each is served as a single one is, side by side, and fails alone.

Never admits, orders or times them: the engine's queue, the users' turns and the deadline do, by the
rules of single requests.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from service.errors import InvalidRequest, ServiceError, Unexpected
from service.schemas import Problem

_log = structlog.get_logger("mfalcon.http")

R = TypeVar("R")
A = TypeVar("A")


async def each(
    entries: Sequence[R | InvalidRequest],
    serve: Callable[[R], Awaitable[A]],
    *,
    request_id: str,
    path: str,
) -> list[A | Problem]:
    """The answer to each entry, or its problem, in the order of the entries.

    Those of one user take their turns in that order.
    """

    async def one(place: int, entry: R | InvalidRequest) -> A | Problem:
        try:
            if isinstance(entry, InvalidRequest):
                raise entry
            return await serve(entry)
        except ServiceError as error:
            found = error
        except Exception as error:
            _log.error("internal_error", request_id=request_id, entry=place, exc_info=error)
            found = Unexpected()
        return Problem(**found.problem(request_id, f"{path}#/requests/{place}"))

    return await asyncio.gather(*(one(*entry) for entry in enumerate(entries)))
