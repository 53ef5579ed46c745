"""Owns putting the service together: the only composition root."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.responses import FileResponse
from starlette.middleware.cors import CORSMiddleware

from service.api import admin, document, problems
from service.api.disconnects import Disconnects
from service.api.guard import Gate, Guard
from service.api.middleware import BodyLimit, RequestScope
from service.api.routes import router
from service.api.shedding import Shedding
from service.api.tally import Tally
from service.runtime import Runtime
from service.settings import Settings, split_origins

if TYPE_CHECKING:
    from service.otel import Tracing

_DEMO_PAGE = Path(__file__).parent / "static" / "demo.html"


def create_app(settings: Settings, tracing: "Tracing | None" = None) -> FastAPI:
    """An ASGI app. Its lifespan begins with opening the store and loading the checkpoint, for which
    it does not wait: until then probes are answered, and requests refused."""
    runtime = Runtime(settings, tracing)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        runtime.begin()
        try:
            yield
        finally:
            await runtime.stop()

    app = FastAPI(
        title="mfalcon",
        version=version("mfalcon"),
        description="Online inference for HSTU recommenders.",
        lifespan=lifespan,
        # Its own would tell paths, which hold user ids, to whatever traces this process.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.runtime = runtime
    app.include_router(router)
    app.include_router(admin.router)
    problems.install(app, runtime.metrics)
    app.state.clients = clients = settings.client_keys()
    document.install(app, needs_keys=bool(clients))
    app.add_middleware(Disconnects)
    app.add_middleware(
        BodyLimit,
        max_bytes=settings.max_body_bytes,
        timeout_s=settings.receive_timeout_ms / 1000,
    )
    gate, tally = Gate(clients, settings.admin_keys()), Tally(runtime.metrics)
    app.state.shedding = Shedding(runtime, gate, tally)
    app.add_middleware(Guard, gate=gate)
    if origins := split_origins(settings.cors_origins):
        app.add_middleware(
            CORSMiddleware,  # outside the guard: a browser asks without a key whether it may ask
            allow_origins=origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "X-API-Key", "X-Request-ID", "X-Request-Timeout-Ms"],
            expose_headers=["X-Request-ID", "Server-Timing", "Retry-After"],
        )
    app.add_middleware(
        RequestScope,
        metrics=runtime.metrics,
        tally=tally,
        lifecycle=runtime.lifecycle,
        in_flight=runtime.in_flight,
    )
    if tracing is not None:
        from service.otel import TracedRequests

        app.add_middleware(TracedRequests, tracing=tracing)

    @app.get("/", include_in_schema=False)
    async def demo_page() -> FileResponse:
        return FileResponse(_DEMO_PAGE)

    return app
