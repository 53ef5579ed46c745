"""Owns many requests in one: each is served as a single one is, and fails alone; those of different
users side by side, those of one user one after another.

Never admits or times them: the engine's queue, the users' turns and the deadline do, by the rules
of single requests.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog
from pydantic import ValidationError

from service.errors import InvalidRequest, ServiceError, Unexpected
from service.schemas import EventsRequest, Problem, RecommendRequest

_log = structlog.get_logger("mfalcon.http")

R = TypeVar("R", RecommendRequest, EventsRequest)
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

    Those of one user are not there at once, so that they are as one request to the bound on a
    user's requests in flight.
    """
    results: dict[int, A | Problem] = {}
    by_user: dict[str, list[tuple[int, R]]] = {}

    def fail(place: int, error: Exception) -> None:
        if not isinstance(error, ServiceError):
            _log.error("internal_error", request_id=request_id, entry=place, exc_info=error)
            error = Unexpected()
        results[place] = Problem(**error.problem(request_id, f"{path}#/requests/{place}"))

    async def in_order(theirs: Sequence[tuple[int, R]]) -> None:
        for place, request in theirs:
            try:
                results[place] = await serve(request)
            except Exception as error:
                fail(place, error)

    for place, entry in enumerate(entries):
        try:
            request = _read(model, entry)
        except Exception as error:
            fail(place, error)
        else:
            by_user.setdefault(request.user_id, []).append((place, request))
    await asyncio.gather(*map(in_order, by_user.values()))
    return [results[place] for place in range(len(entries))]


def _read(model: type[R], entry: object) -> R:
    try:
        return model.model_validate(entry)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise InvalidRequest.of((wrong["loc"], wrong["msg"]) for wrong in found) from None
