"""Owns turning exceptions into problem+json answers (RFC 9457).

Never echoes the request's values: an error names the field and what is wrong with it.
"""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from service.errors import (
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    NotReady,
    Overloaded,
    Refusal,
    ReloadRunning,
    ServiceError,
    TooLarge,
    TooSlow,
    Unauthorized,
    Unexpected,
    UnknownUser,
)
from service.metrics import Metrics
from service.schemas import Problem

_KINDS: dict[int, type[ServiceError]] = {400: InvalidRequest, 405: MethodNotAllowed}

_EXAMPLES: dict[int, ServiceError] = {
    error.status: error
    for error in (
        Unauthorized("an API key is missing; send it as `Authorization: Bearer KEY`"),
        Forbidden("admin routes are off; set an admin key (MFALCON_ADMIN_KEY) and restart"),
        UnknownUser("no state is held for this user under the loaded checkpoint"),
        ReloadRunning("another reload is running, or the last one's requests are; wait"),
        TooSlow("the body was not here after 10000 ms"),
        TooLarge("num_results: 5000 exceeds the limit of 1000"),
        InvalidRequest("user_id: Field required"),
        Overloaded("128 of 128 requests are waiting", reason=Refusal.FULL, retry_after_s=1),
        Unexpected(),
        NotReady("the service is loading", retry_after_s=1),
        DeadlineExceeded("the engine did not answer within the budget"),
    )
}

PROBLEM_JSON = "application/problem+json"


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route documents for its error statuses, each with an example."""
    schema = Problem.model_json_schema()
    documented: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        error = _EXAMPLES[status]
        content = {"schema": schema, "example": error.problem("0fb9c157", "/recommend")}
        documented[status] = {"description": error.title, "content": {PROBLEM_JSON: content}}
    return documented


def answer(error: ServiceError, request_id: str, path: str) -> JSONResponse:
    headers = {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = 'Bearer realm="mfalcon"'
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    return JSONResponse(
        error.problem(request_id, path), error.status, headers, media_type=PROBLEM_JSON
    )


def install(app: FastAPI, metrics: Metrics) -> None:
    @app.exception_handler(ServiceError)
    async def service_error(request: Request, error: ServiceError) -> JSONResponse:
        if isinstance(error, Overloaded):
            metrics.refusals.labels(error.reason).inc()
        return answer(error, request.state.request_id, request.url.path)

    @app.exception_handler(RequestValidationError)
    async def validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
        wrong = ((problem["loc"][1:], problem["msg"]) for problem in error.errors())
        return answer(InvalidRequest.of(wrong), request.state.request_id, request.url.path)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        kind = _KINDS.get(error.status_code, NotFound)
        detail = f"{request.method} {request.url.path}: {error.detail}; see /docs"
        response = answer(kind(detail), request.state.request_id, request.url.path)
        response.headers.update(error.headers or {})
        return response
