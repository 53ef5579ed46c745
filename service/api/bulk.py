"""Owns many requests in one: each is served as a single one is, side by side, and fails alone.

Never admits, orders or times them: the engine's queue, the users' turns and the deadline do, by the
rules of single requests.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog
from pydantic import BaseModel, ValidationError

from service.errors import InvalidRequest, ServiceError, Unexpected
from service.schemas import Problem

_log = structlog.get_logger("mfalcon.http")

R = TypeVar("R", bound=BaseModel)
A = TypeVar("A")


async def each(
    entries: Sequence[object],
    model: type[R],
    serve: Callable[[R], Awaitable[A]],
    *,
    request_id: str,
    path: str,
) -> list[A | Problem]:
    """The answer to each entry, or its problem, in the order of the entries.

    Those of one user take their turns in that order.
    """

    async def one(place: int, entry: object) -> A | Problem:
        try:
            return await serve(_read(model, entry))
        except ServiceError as error:
            found = error
        except Exception as error:
            _log.error("internal_error", request_id=request_id, entry=place, exc_info=error)
            found = Unexpected()
        return Problem(**found.problem(request_id, f"{path}#/requests/{place}"))

    return await asyncio.gather(*(one(*entry) for entry in enumerate(entries)))


def _read(model: type[R], entry: object) -> R:
    try:
        return model.model_validate(entry)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise InvalidRequest.of((wrong["loc"], wrong["msg"]) for wrong in found) from None
