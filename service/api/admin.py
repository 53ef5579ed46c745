"""Owns the routes of whoever runs the service: reloading. Never for clients of the product."""

import hmac
import time
from pathlib import Path

from fastapi import APIRouter, Depends, Request

from service.api.problems import responses
from service.errors import Forbidden
from service.runtime import Runtime
from service.schemas import ReloadRequest, ReloadResponse


async def require_admin(request: Request) -> None:
    """
    Raises:
        Forbidden: the request has not the admin key, or none is set.
    """
    key = request.app.state.runtime.settings.admin_key
    if not key:
        raise Forbidden("admin routes are off; set an admin key (MFALCON_ADMIN_KEY) and restart")
    given = request.headers.get("x-api-key", "")
    if not hmac.compare_digest(given.encode(), key.encode()):
        raise Forbidden("this takes the admin key; send it as X-API-Key")


router = APIRouter(prefix="/admin", dependencies=[Depends(require_admin)])


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
