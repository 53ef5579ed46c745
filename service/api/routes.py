"""Owns the routes: each takes typed input, calls the recommender, and returns a typed answer."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from cache import StoreUnavailable
from service.api.budget import deadline_of
from service.api.bulk import each
from service.api.problems import responses
from service.deadline import Deadline, Ending
from service.errors import NotReady, UnknownUser
from service.runtime import Runtime
from service.schemas import (
    DeleteResponse,
    EventsBatch,
    EventsBatchResponse,
    EventsRequest,
    EventsResponse,
    RecommendBatch,
    RecommendBatchResponse,
    RecommendRequest,
    RecommendResponse,
    StateResponse,
    UserId,
)

router = APIRouter()
UserPath = Annotated[UserId, Path()]
_ERRORS = responses(408, 413, 422, 429, 500, 503, 504)


def _runtime(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


@router.post("/recommend", responses=_ERRORS)
async def recommend(
    body: RecommendRequest, request: Request, response: Response
) -> RecommendResponse:
    """Ranked items with action predictions, within the latency budget."""
    recommender = _runtime(request).recommender()
    deadline = _deadline(request, body.budget_ms)
    state = request.state
    state.ending = Ending(recommender.margin)
    answer = await recommender.recommend(
        body,
        state.request_id,
        deadline,
        _client(request),
        state.ending,
        getattr(state, "place", None),
    )
    timing = answer.timing_ms.model_dump()
    response.headers["Server-Timing"] = ", ".join(f"{k};dur={v}" for k, v in timing.items())
    return answer


@router.post("/events", responses=_ERRORS)
async def events(body: EventsRequest, request: Request) -> EventsResponse:
    """Add events to a user's history; answers once they are stored."""
    recommender = _runtime(request).recommender()
    return await recommender.add_events(
        body, request.state.request_id, _deadline(request, None), _client(request)
    )


@router.post("/recommend/batch", responses=_ERRORS)
async def recommend_batch(body: RecommendBatch, request: Request) -> RecommendBatchResponse:
    """Ranked items for many users: an answer or a problem for each, within one latency budget."""
    recommender = _runtime(request).recommender()
    recommender.check_batch(len(body.requests))
    request_id, began_s = request.state.request_id, request.state.began_s
    client = _client(request)
    shared = _deadline(request, body.budget_ms)
    ending = request.state.ending = Ending(recommender.batch_margin)

    async def serve(entry: RecommendRequest) -> RecommendResponse:
        own = entry.budget_ms
        deadline = shared if own is None else min(shared, Deadline.after_ms(own, since_s=began_s))
        return await recommender.recommend(entry, request_id, deadline, client, ending)

    results = await each(
        body.requests, RecommendRequest, serve, request_id=request_id, path=request.url.path
    )
    return RecommendBatchResponse(request_id=request_id, results=results)


@router.post("/events/batch", responses=_ERRORS)
async def events_batch(body: EventsBatch, request: Request) -> EventsBatchResponse:
    """Add events to the histories of many users; answers once all are stored that can be."""
    recommender = _runtime(request).recommender()
    recommender.check_batch(len(body.requests))
    request_id = request.state.request_id

    async def serve(entry: EventsRequest) -> EventsResponse:
        deadline = _deadline(request, None)
        return await recommender.add_events(entry, request_id, deadline, _client(request))

    results = await each(
        body.requests, EventsRequest, serve, request_id=request_id, path=request.url.path
    )
    return EventsBatchResponse(request_id=request_id, results=results)


@router.get("/users/{user_id:path}/state", responses=responses(404, 422, 500, 503))
async def get_state(user_id: UserPath, request: Request) -> StateResponse:
    """What is held for a user, in which tiers, until when; looking renews nothing."""
    states = _runtime(request).recommender().states
    try:
        async with states.turn(user_id):
            found = await states.look(user_id)
    except StoreUnavailable as error:
        raise NotReady("the store does not answer", retry_after_s=1) from error
    if found is None:
        raise UnknownUser("no state is held for this user under the loaded checkpoint")
    held, tiers = found
    header = held.header
    return StateResponse(
        user_id=user_id,
        fingerprint=header.fingerprint.hex(),
        tiers=tiers,
        num_events=header.num_events,
        num_final=header.num_final,
        anchor=header.anchor,
        version=header.version,
        dtype=header.dtype.label,
        num_bytes=held.num_bytes,
        expires_in_s=held.ttl_s,
    )


# 404 is also the router's own: it takes no line break in a path.
@router.delete("/users/{user_id:path}/state", responses=responses(404, 422, 500, 503))
async def delete_state(user_id: UserPath, request: Request) -> DeleteResponse:
    """Forget a user: their states under all checkpoints, in all replicas."""
    states = _runtime(request).recommender().states
    try:
        async with states.turn(user_id):
            deleted = await states.forget(user_id)
    except StoreUnavailable as error:
        raise NotReady(
            "the store does not answer, some may not be deleted; ask again", retry_after_s=1
        ) from error
    return DeleteResponse(user_id=user_id, deleted=deleted)


@router.get("/health/live", responses={503: {"description": "The engine is dead"}})
async def live(request: Request) -> JSONResponse:
    """503 once the engine thread has died or hangs; the process should be replaced."""
    alive = _runtime(request).alive
    return JSONResponse({"status": "alive" if alive else "dead"}, 200 if alive else 503)


@router.get("/health/ready", responses={503: {"description": "Not taking requests"}})
async def ready(request: Request) -> JSONResponse:
    """200 while requests are taken."""
    runtime = _runtime(request)
    return JSONResponse({"status": runtime.status}, 200 if runtime.is_ready else 503)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {CONTENT_TYPE_LATEST: {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request) -> Response:
    """Prometheus text format."""
    return Response(_runtime(request).metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


@router.get("/info", responses=responses(500, 503))
async def info(request: Request) -> dict[str, Any]:
    """The loaded checkpoint, its actions, the limits in force, and some item ids to try."""
    return _runtime(request).info()


def _client(request: Request) -> str:
    """The name of the request's key."""
    client: str = request.state.client
    return client


def _deadline(request: Request, budget_ms: float | None) -> Deadline:
    max_budget_ms = _runtime(request).settings.max_budget_ms
    return deadline_of(request.scope, max_budget_ms, budget_ms)
