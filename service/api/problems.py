"""Owns turning exceptions into problem+json answers (RFC 9457).

Never echoes the request's values: an error names the field and what is wrong with it.
"""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from service.errors import (
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    ServiceError,
)
from service.metrics import Metrics
from service.schemas import Problem

_MAX_ERRORS = 20
_MAX_FIELD = 200
_KINDS: dict[int, type[ServiceError]] = {400: InvalidRequest, 405: MethodNotAllowed}

PROBLEM_JSON = "application/problem+json"


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route documents for its error statuses."""
    content = {PROBLEM_JSON: {"schema": Problem.model_json_schema()}}
    return {status: {"description": "Problem", "content": content} for status in statuses}


def answer(error: ServiceError, request_id: str, path: str) -> JSONResponse:
    headers = {}
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
        return answer(_invalid(error), request.state.request_id, request.url.path)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        kind = _KINDS.get(error.status_code, NotFound)
        detail = f"{request.method} {request.url.path}: {error.detail}; see /docs"
        response = answer(kind(detail), request.state.request_id, request.url.path)
        response.headers.update(error.headers or {})
        return response


def _invalid(error: RequestValidationError) -> InvalidRequest:
    problems = [
        {
            # Names come from the request, at whatever length.
            "field": ".".join(str(part) for part in problem["loc"][1:])[:_MAX_FIELD] or "body",
            "message": problem["msg"],
        }
        for problem in error.errors()[:_MAX_ERRORS]
    ]
    first = problems[0]
    return InvalidRequest(f"{first['field']}: {first['message']}", errors=problems)
