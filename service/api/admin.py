"""Owns the routes of whoever runs the service: reloading. Never for clients of the product."""

import time
from pathlib import Path

from fastapi import APIRouter, Request

from service.api.guard import Admin
from service.api.problems import responses
from service.runtime import Runtime
from service.schemas import ReloadRequest, ReloadResponse

router = APIRouter(prefix="/admin", dependencies=[Admin])


@router.post("/reload", responses=responses(403, 409, 413, 422, 500, 503))
async def reload(body: ReloadRequest, request: Request) -> ReloadResponse:
    """Serve from another checkpoint without a request failing; answers once it is in use."""
    runtime: Runtime = request.app.state.runtime
    began = time.monotonic()
    folder = None if body.checkpoint is None else Path(body.checkpoint)
    previous, model = await runtime.reload(folder)
    return ReloadResponse(
        request_id=request.state.request_id,
        model=model,
        previous=previous,
        seconds=time.monotonic() - began,
    )
